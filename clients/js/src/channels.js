// The channels of a client: its memberships, its positions, and what it has heard.

import { gap } from "./effects.js";
import { Membership } from "./membership.js";
import { MAX_UIDS } from "./settings.js";
import { isText } from "./texts.js";

/** Channels that every client is in, and that it cannot join or leave. */
export const OWN_CHANNELS = new Set(["broadcast", "direct"]);

/** The length of a uid before its "-", if the message had an idempotency key. */
const KEYED_UID_LENGTH = 32;

/**
 * The memberships of a client, its positions, and the uids of the latest messages.
 *
 * A channel without a membership is one of which the hub sends messages, and has not said why: it is heard, and keeps
 * its position. What is not heard has no position, because showing a position to the hub subscribes to its channel.
 *
 * Names of channels such as `__proto__` are no keys of plain objects here.
 */
export class Channels {
  memberships = new Map(); // by channel
  positions = new Map(); // by channel: `offset` and `epoch` of the last message
  #uids = new Map(); // the channels of the latest messages by channel and uid, the oldest first

  /** Return whether messages of a channel are delivered. */
  hears(channel) {
    return this.memberships.get(channel)?.heard ?? true;
  }

  /** Change the membership in a channel, and forget what is over then. Return what `change` returns. */
  change(channel, change) {
    let membership = this.memberships.get(channel);
    if (membership === undefined) {
      membership = new Membership(this.positions.has(channel));
      this.memberships.set(channel, membership);
    }
    const wasHeard = membership.heard;
    const result = change(membership);
    if (wasHeard && !membership.heard) this.#forget(channel);
    if (membership.isOver) this.memberships.delete(channel);
    return result;
  }

  /** Return whether the client hears a channel that the application has not asked for. */
  isByHub(channel) {
    return this.memberships.get(channel)?.byHub ?? this.positions.has(channel);
  }

  /** Note that the hub has made the client a member of a channel by itself. */
  putIn(channel) {
    if (!OWN_CHANNELS.has(channel)) this.change(channel, (membership) => membership.putIn());
  }

  /**
   * Take over the channels of a welcome. Return the channels that are `lost`, and the `gaps` before the positions.
   *
   * `states`: by channel, its position and whether what was missed follows.
   */
  welcomed(states) {
    const lost = [...this.memberships.keys()].filter((channel) =>
      this.change(channel, (membership) => membership.welcomed(states.has(channel))),
    );
    const gaps = [];
    for (const [channel, state] of states) {
      if (!this.memberships.has(channel)) this.putIn(channel);
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
    return { lost, gaps };
  }

  /**
   * Note that the hub has taken the client out of a channel. Return whether the application is to be told.
   *
   * `forGood`: see `takenOut` of a membership.
   */
  takenOut(channel, forGood) {
    if (this.memberships.has(channel)) return this.change(channel, (membership) => membership.takenOut(forGood));
    this.#forget(channel);
    return true;
  }

  /** Forget what was heard. Who enters the channel again with the last messages wants all of them. */
  #forget(channel) {
    this.positions.delete(channel);
    for (const [key, of] of this.#uids) if (of === channel) this.#uids.delete(key);
  }

  /**
   * Note the position that the hub has given the client in a channel. Return the gap before it, or null.
   *
   * After a successful recovery the messages before the position follow, so the client is still before them.
   */
  placed(channel, state) {
    if (!this.hears(channel)) return null;
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
    if (this.hears(channel) && position !== null) this.positions.set(channel, position);
  }

  /** Note a message. Return whether the application should get it: it came for the first time, and is wanted. */
  isNew(message) {
    const { channel = "", uid } = message;
    if (!this.hears(channel)) return false;
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
