// The channels of a client: those that the application wants, where the client stands in them, and what it has had.

import { gap } from "./effects.js";
import { MAX_UIDS } from "./settings.js";
import { isText } from "./texts.js";

/** Channels that every client is in, and that it cannot join or leave. */
export const OWN_CHANNELS = new Set(["broadcast", "direct"]);

/** The length of a uid before its "-", if the message had an idempotency key. */
const KEYED_UID_LENGTH = 32;

/**
 * Membership is what the application said last, whatever the hub remembers of the session.
 *
 * A channel that was left stays in `leaving` until the hub has confirmed it, even if it is wanted again: its messages
 * are dropped, and no position of it is shown to the hub, because naming a position subscribes to its channel.
 *
 * Names of channels such as `__proto__` are no keys of plain objects here.
 */
export class Channels {
  wanted = new Set();
  joined = new Set();
  leaving = new Set();
  positions = new Map(); // by channel: `offset` and `epoch` of the last message
  #uids = new Map(); // the channels of the latest messages by channel and uid, the oldest first

  want(channel) {
    this.wanted.add(channel);
  }

  /** Note that what comes of a channel belongs to no membership any more that was ended. */
  left(channel) {
    this.leaving.delete(channel);
  }

  leave(channel) {
    this.forget(channel);
    this.leaving.add(channel);
  }

  /** Forget a channel that the hub has refused. */
  forget(channel) {
    this.left(channel);
    this.wanted.delete(channel);
    this.joined.delete(channel);
    this.positions.delete(channel);
    // Who enters the channel again with the last messages of its history wants all of them.
    for (const [key, of] of this.#uids) if (of === channel) this.#uids.delete(key);
  }

  /**
   * Take over the channels of a welcome. Return what the client has to do, so that it is where the application wants it
   * to be: the channels to `subscribe` and to `unsubscribe`, and the `gaps` to tell.
   *
   * `states`: by channel, its position and whether what was missed follows. `pending`: channels that a call waits to
   * join or to leave, which are settled by its own request.
   */
  welcomed(states, pending) {
    const unsubscribe = [];
    const gaps = [];
    for (const [channel, state] of states) {
      if (this.leaving.has(channel)) {
        if (!pending.has(channel)) unsubscribe.push(channel);
        continue;
      }
      if (!OWN_CHANNELS.has(channel)) this.joined.add(channel);
      // The request of a pending channel asks for the last messages, which would count as known.
      if (pending.has(channel) && !this.positions.has(channel)) continue;
      const before = this.positions.get(channel);
      const found = this.placed(channel, state);
      const at = this.positions.get(channel);
      if (found) {
        gaps.push(found);
      } else if (before && state.recovered === undefined && (at.offset !== before.offset || at.epoch !== before.epoch)) {
        // The client could not say where it was.
        gaps.push(gap(channel, at.epoch === before.epoch ? "expired" : "epoch_changed"));
      }
    }
    for (const channel of this.joined) if (!states.has(channel)) this.joined.delete(channel);
    const subscribe = [...this.wanted].filter((one) => !this.joined.has(one) && !pending.has(one));
    for (const channel of this.leaving) {
      if (!states.has(channel) && !pending.has(channel)) this.leaving.delete(channel);
    }
    return { subscribe, unsubscribe, gaps };
  }

  /**
   * Note the position that the hub has given the client in a channel. Return the gap before it, or null.
   *
   * After a successful recovery the messages before the position follow, so the client is still before them.
   */
  placed(channel, state) {
    if (this.leaving.has(channel)) return null;
    if (!OWN_CHANNELS.has(channel)) this.joined.add(channel);
    const position = positionIn(channel, state);
    const wasKnown = this.positions.has(channel);
    if (state.recovered === true) {
      if (!wasKnown && position !== null) {
        const count = Number.isInteger(state.count) ? state.count : 0;
        this.positions.set(channel, { offset: position.offset - count, epoch: position.epoch });
      }
      return null;
    }
    if (position !== null) this.positions.set(channel, position);
    return state.recovered === false && wasKnown ? gap(channel, isText(state.reason) ? state.reason : "") : null;
  }

  /** Note a position that the hub has told by itself. */
  moved(channel, message) {
    const position = positionIn(channel, message);
    if (!this.leaving.has(channel) && position !== null) this.positions.set(channel, position);
  }

  /** Note a message. Return whether the application should get it: it came for the first time, and is wanted. */
  isNew(message) {
    const { channel = "", uid } = message;
    if (this.leaving.has(channel)) return false;
    const position = positionIn(channel, message);
    if (position !== null) {
      const at = this.positions.get(channel);
      if (at !== undefined && at.epoch === position.epoch && position.offset <= at.offset) return false;
      this.positions.set(channel, position);
    }
    if (typeof uid !== "string" || !uid) return true;
    const keys = uidsOf(uid).map((one) => JSON.stringify([channel, one]));
    if (keys.some((key) => this.#uids.has(key))) return false; // it arrived before it was stored, too
    this.#uids.set(keys[0], channel);
    if (this.#uids.size > MAX_UIDS) this.#uids.delete(this.#uids.keys().next().value);
    return true;
  }
}

/** Return the position that a message names in a channel, or null if it names none that could be sent back. */
export function positionIn(channel, { offset, epoch }) {
  return isText(channel) && Number.isInteger(offset) && isText(epoch) ? { offset, epoch } : null;
}

/**
 * Return the uids that a message may have, its own first.
 *
 * The uid of a message with an idempotency key ends with the minute in which it was sent, in hexadecimal. A try in the
 * next minute has another one.
 */
export function uidsOf(uid) {
  const dash = uid.indexOf("-");
  const minute = uid.slice(dash + 1);
  if (dash !== KEYED_UID_LENGTH || !/^[0-9a-f]{1,12}$/.test(minute)) return [uid];
  const name = uid.slice(0, dash);
  const at = parseInt(minute, 16);
  return [uid, `${name}-${(at - 1).toString(16)}`, `${name}-${(at + 1).toString(16)}`];
}
