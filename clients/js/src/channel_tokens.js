// The tokens of channels: when the application is asked for one. No I/O.

import { askChannelToken } from "./effects.js";
import { timeToAsk } from "./own_token.js";
import { FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, TOKEN_SECONDS } from "./settings.js";
import { earliest } from "./times.js";

/**
 * The subscriptions that wait for a token, and the channels whose token is to be replaced.
 *
 * The application is asked while there is a connection.
 */
export class ChannelTokens {
  #random;
  #emit;
  // By the id of the request: `askAt` (null: at once, or the application has been asked already), `givesUpAt` (it has
  // been asked, and must have answered by then), and `failures` in a row.
  #questions = new Map();
  #renewAt = new Map(); // by channel

  constructor(random, emit) {
    this.#random = random;
    this.#emit = emit;
  }

  /** Have the application asked for the token of a subscription, by its `source`. */
  add(request) {
    this.#questions.set(request.id, { request, askAt: null, givesUpAt: null, failures: 0 });
  }

  /** Return the subscription with this id if it waits for a token, or null, and wait no longer. */
  take(id) {
    const request = this.#questions.get(id)?.request ?? null;
    this.#questions.delete(id);
    return request;
  }

  /** Note for how many seconds the token of a channel is valid, see `timeToAsk`. */
  expiresIn(now, channel, seconds) {
    const at = timeToAsk(now, seconds, this.#random);
    if (at === null) this.#renewAt.delete(channel);
    else this.#renewAt.set(channel, at);
  }

  /** Return the channels that are to be subscribed to with another token now. Each is returned once. */
  toRenew(now) {
    const due = [...this.#renewAt].filter(([, at]) => now >= at).map(([channel]) => channel);
    for (const channel of due) this.#renewAt.delete(channel);
    return due;
  }

  /** Note that the connection has ended. On the next one, the application is asked anew. */
  hangUp() {
    for (const question of this.#questions.values()) question.askAt = question.givesUpAt = null;
  }

  /** Return when `act` must be called again, or null. `graceUntil`: the application may answer until then. */
  deadline(graceUntil) {
    let found = earliest([...this.#renewAt.values()]);
    for (const { askAt, givesUpAt } of this.#questions.values()) {
      const at = givesUpAt === null ? askAt : Math.max(givesUpAt, graceUntil);
      found = earliest([found, at]);
    }
    return found;
  }

  /** Ask for the tokens that are to be asked for. Return the ids of those for which no answer came in time. */
  act(now, graceUntil) {
    const late = [];
    for (const [id, question] of this.#questions) {
      if (question.givesUpAt !== null) {
        if (now >= Math.max(question.givesUpAt, graceUntil)) late.push(id);
      } else if (question.askAt === null || now >= question.askAt) {
        question.askAt = null;
        question.givesUpAt = now + TOKEN_SECONDS;
        this.#emit(askChannelToken(id, question.request.channel, question.request.source));
      }
    }
    return late;
  }

  /**
   * Note that the application gave no token. Return the call that is to be rejected.
   *
   * null: no call waits. For a subscription that the client makes by itself, the application is asked again.
   */
  failed(now, id) {
    const question = this.#questions.get(id);
    if (question === undefined) return null;
    if (!question.request.internal) return this.take(id);
    const longest = Math.min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** Math.min(question.failures, 10));
    question.failures += 1;
    question.askAt = now + longest * (0.5 + 0.5 * this.#random());
    question.givesUpAt = null;
    return null;
  }
}
