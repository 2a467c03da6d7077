// When the application is asked for the next token: before the one that the client has expires. No I/O.

import { REFRESH_FROM, REFRESH_SPREAD, SHORTEST_TOKEN_SECONDS } from "./settings.js";

/** A token that is valid for longer does not expire. */
const LARGEST_SECONDS = 1e9;

/**
 * Return when the application is asked for the next token, or null if not at all.
 *
 * `seconds`: for how long the token is valid, as the hub says. Anything but a number: it does not say so.
 */
export function timeToAsk(now, seconds, random) {
  if (typeof seconds !== "number" || seconds < SHORTEST_TOKEN_SECONDS || seconds > LARGEST_SECONDS) return null;
  return now + seconds * (REFRESH_FROM + REFRESH_SPREAD * random());
}

/**
 * The token of an open connection, which the client replaces before it expires.
 *
 * If that fails, the hub ends the connection with the token, and the client comes back with another one.
 */
export class OwnToken {
  askAt = null; // the application is asked for the next token then
  #isAsked = false;
  #random;
  #isFixed;

  /** `isFixed`: no function can give another token. `random` returns numbers from 0 to below 1. */
  constructor(random, isFixed) {
    this.#random = random;
    this.#isFixed = isFixed;
  }

  /** Note for how many seconds the token is valid, see `timeToAsk`. */
  expiresIn(now, seconds) {
    this.forget();
    if (!this.#isFixed) this.askAt = timeToAsk(now, seconds, this.#random);
  }

  /** Note that there is no connection any more. What the application answers is of no use then. */
  forget() {
    this.askAt = null;
    this.#isAsked = false;
  }

  /** Return whether the application is to be asked now. That is said once. */
  isDue(now) {
    if (this.askAt === null || now < this.askAt) return false;
    this.askAt = null;
    this.#isAsked = true;
    return true;
  }

  /** Note that the application has answered. Return whether it was asked. */
  answered() {
    const wasAsked = this.#isAsked;
    this.#isAsked = false;
    return wasAsked;
  }
}
