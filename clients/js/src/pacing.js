// The pace at which a client sends: below the limits that the hub names in its welcome.

import { MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES } from "./settings.js";

/**
 * The parts of the hub's limits that a client uses.
 *
 * What a client sends within its share, and then arrives at once after a delay, is still within the hub's limits: no
 * more than half a burst is on its way.
 */
const SHARE_OF_RATE = 0.9;
const SHARE_OF_BURST = 0.5;

/** The hub counts so much more for the first message of a connection to a channel. */
const NEW_CHANNEL_BYTES = 4096;

/** The channels of which the hub remembers that a connection has published in them. */
const MAX_KNOWN_CHANNELS = 32;

/** Tokens that may be missing: sums of fractions are not exact. */
const TOLERANCE = 1e-6;

/** A limit above this is none. */
const LARGEST_LIMIT = 1e15;

/** Limits of a hub that names none. */
const UNKNOWN = { messages_per_second: 50, message_burst: 100, bytes_per_second: 65_536, byte_burst: 524_288 };

/** A bucket that gains `rate` tokens a second and holds up to `burst`. A rate of 0 is no limit. */
class Bucket {
  #rate;
  #burst;
  #tokens;
  #filledAt;

  constructor(rate, burst, now) {
    this.#rate = rate * SHARE_OF_RATE;
    this.#burst = Math.max(1, burst * SHARE_OF_BURST);
    this.#tokens = this.#burst;
    this.#filledAt = now;
  }

  /** Return the seconds until `amount` tokens may be taken. An amount above the burst needs a full bucket. */
  wait(now, amount) {
    if (this.#rate === 0) return 0;
    this.#fill(now);
    const missing = Math.min(amount, this.#burst) - this.#tokens;
    return missing > TOLERANCE ? missing / this.#rate : 0;
  }

  /** Take tokens, also if there are too few: the next ones wait for them. */
  take(now, amount) {
    this.#fill(now);
    this.#tokens -= amount;
  }

  #fill(now) {
    const gained = Math.max(0, now - this.#filledAt) * this.#rate;
    this.#tokens = Math.min(this.#burst, this.#tokens + gained);
    this.#filledAt = now;
  }
}

/** The limits of one connection. */
export class Pacing {
  #messages;
  #bytes;
  #countsBytes;
  #channels = new Set(); // in which it has published

  /** `limits`: those of the welcome, or null for a hub that names none. */
  constructor(limits, now) {
    const given = limits ?? UNKNOWN;
    const limit = (name) => {
      const value = Object.hasOwn(given, name) ? given[name] : 0;
      return typeof value === "number" && value > 0 && value < LARGEST_LIMIT ? value : 0;
    };

    const messageBurst = limit("message_burst");
    const byteBurst = limit("byte_burst");
    this.#messages = new Bucket(limit("messages_per_second"), messageBurst, now);
    this.#bytes = new Bucket(limit("bytes_per_second"), byteBurst, now);
    this.#countsBytes = limit("bytes_per_second") > 0;
    this.maxMessageBytes = limit("max_message_bytes") || null;
    this.window = MAX_IN_FLIGHT;
    if (limit("messages_per_second")) {
      this.window = Math.max(1, Math.min(MAX_IN_FLIGHT, Math.floor(messageBurst * SHARE_OF_BURST)));
    }
    this.windowBytes = MAX_IN_FLIGHT_BYTES;
    if (limit("bytes_per_second")) this.windowBytes = Math.min(this.windowBytes, byteBurst * SHARE_OF_BURST);
  }

  /** Return the seconds until a request may be sent. `channel`: the one in which it publishes. */
  wait(now, size, channel) {
    return Math.max(this.#messages.wait(now, 1), this.#bytes.wait(now, this.cost(size, channel)));
  }

  /** Note that a request was sent. */
  sent(now, size, channel = null) {
    this.#messages.take(now, 1);
    this.#bytes.take(now, this.cost(size, channel));
    if (channel !== null && !this.#channels.has(channel)) {
      if (this.#channels.size >= MAX_KNOWN_CHANNELS) this.#channels.clear();
      this.#channels.add(channel);
    }
  }

  /** Return the bytes that the hub counts for a request. */
  cost(size, channel) {
    const isNew = channel !== null && !this.#channels.has(channel);
    return isNew && this.#countsBytes ? size + NEW_CHANNEL_BYTES : size;
  }
}
