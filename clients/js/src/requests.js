// The requests of a client that have no answer yet, in the order of the calls.

import { QUEUE_FULL, WsdError } from "./errors.js";
import { MAX_TRIES } from "./settings.js";
import { byteLength } from "./texts.js";

/**
 * How far a request has come: (PREPARING ->) WAITING -> SENT -> (ACCEPTED ->) answered.
 *
 * PREPARING: the application is asked for the token of the channel, once there is a connection. ACCEPTED: the hub has
 * the message, and says later that it is stored. A request that the hub could not carry out, or whose connection ended,
 * is WAITING or PREPARING again.
 */
export const Progress = Object.freeze({ PREPARING: "preparing", WAITING: "waiting", SENT: "sent", ACCEPTED: "accepted" });

const PUBLISHING = new Set(["publish", "broadcast", "direct"]);

/** Requests that change nothing, so that later ones may overtake them. */
const READS = new Set(["presence", "history", "delivered"]);

/** So many requests that were cancelled may be in the queue. */
const MANY = 100;

/** One call of the application, or a request that the client sends for itself. */
export class Request {
  constructor(id, kind, text, size, fields = {}) {
    this.id = id;
    this.kind = kind; // "publish", "subscribe" and so on
    this.text = text; // the JSON object; that of a subscription is made when it is sent
    this.size = size; // of the text
    this.channel = "";
    this.last = 0; // of a subscription: the messages wanted from the history
    this.token = ""; // of a subscription
    this.source = null; // what the application is asked with for a token, on each connection anew
    this.positions = new Map(); // of a ping: what the application has read
    this.deadline = null;
    this.internal = false; // no call waits for the answer
    this.isAbandoned = false; // a call did, and was given up while the request was on its way
    this.progress = Progress.WAITING;
    this.sentAt = null; // the last time that it was sent
    this.lost = 0; // connections that ended while this was the first request on its way
    Object.assign(this, fields);
  }

  /** True if the hub may have seen the request. */
  get wasSent() {
    return this.sentAt !== null;
  }

  /** True if the request joins or leaves its channel. */
  get isMembership() {
    return this.kind === "subscribe" || this.kind === "unsubscribe";
  }

  /** The channel that the hub counts for a message, or null for other requests. */
  get publishedIn() {
    return PUBLISHING.has(this.kind) ? this.channel : null;
  }
}

/** Requests in their order, which holds through lost connections and refusals for the moment. */
export class Requests {
  #settings;
  #all = new Map(); // by id
  #toSend = []; // those that are WAITING, in the order of the calls
  #urgent = []; // those of the client itself, which go first
  #calls = 0;
  #bytes = 0;
  #inFlight = new Map(); // by id, the oldest first: what the hub counts for the request
  #inFlightBytes = 0;
  #aloneUntil = 0; // up to this id, requests are sent one at a time
  #firstDeadline = null; // no deadline is earlier

  constructor(settings) {
    this.#settings = settings;
  }

  /** The number of calls. What the client sends for itself does not count. */
  get size() {
    return this.#calls;
  }

  get bytes() {
    return this.#bytes;
  }

  /** When the first of the requests was sent to which the hub owes an answer, or null. */
  get oldestSentAt() {
    return this.#inFlight.size ? this.#all.get(first(this.#inFlight.keys())).sentAt : null;
  }

  /** A time before which no request expires, or null. */
  get firstDeadline() {
    return this.#firstDeadline;
  }

  get(id) {
    return this.#all.get(id) ?? null;
  }

  /** Add a request behind those of its kind: of calls, or of the client itself. Throws WsdError `queue_full`. */
  add(request) {
    const { maxWaiting, maxWaitingBytes } = this.#settings;
    if (!request.internal) {
      if (this.#calls >= maxWaiting) {
        throw new WsdError(QUEUE_FULL, `${maxWaiting} calls wait for their answers already`);
      }
      if (this.#bytes + request.size > maxWaitingBytes) {
        const problem = `${this.#bytes} bytes wait for their answers already, at most ${maxWaitingBytes} may`;
        throw new WsdError(QUEUE_FULL, problem);
      }
      this.#calls += 1;
      this.#bytes += request.size;
    }
    this.#all.set(request.id, request);
    if (request.progress === Progress.WAITING) (request.internal ? this.#urgent : this.#toSend).push(request);
    if (request.deadline !== null) {
      this.#firstDeadline = Math.min(this.#firstDeadline ?? request.deadline, request.deadline);
    }
  }

  /** Note the token of a subscription, which may now be sent in its turn. */
  prepared(request, token) {
    this.#setToken(request, token);
    request.progress = Progress.WAITING;
    if (request.internal) this.#urgent.push(request);
    else this.#toSend = this.#inOrder(Progress.WAITING);
  }

  /**
   * Return the request to send next, or null if there is none, or the window is full.
   *
   * `cost` returns the bytes that the hub counts for a request.
   */
  next(window, windowBytes, cost) {
    const queue = this.#nextQueue();
    if (queue === null) return null;
    const request = queue[0];
    const mustWait =
      this.#inFlight.size > 0 &&
      (request.id <= this.#aloneUntil ||
        first(this.#inFlight.keys()) <= this.#aloneUntil ||
        this.#inFlight.size >= window ||
        this.#inFlightBytes + cost(request) > windowBytes);
    return mustWait ? null : request;
  }

  /** Note that the request that is next was sent. */
  sent(request, now, cost) {
    this.#nextQueue().shift();
    request.progress = Progress.SENT;
    request.sentAt = now;
    this.#inFlight.set(request.id, cost);
    this.#inFlightBytes += cost;
  }

  /** Note that the hub has a message that it will store later. It leaves the window. */
  accepted(request) {
    this.#fromFlight(request);
    request.progress = Progress.ACCEPTED;
  }

  /**
   * Note that the hub could not carry out a request now. It is sent again, before all later ones.
   *
   * Until it is answered, requests are sent one at a time, so that no later one overtakes it again. One that changes
   * nothing goes behind all others instead, so that it does not keep them from being carried out.
   */
  sendAgain(request) {
    this.#fromFlight(request);
    request.progress = Progress.WAITING;
    if (request.internal) {
      this.#urgent.push(request);
      return;
    }
    if (READS.has(request.kind)) {
      this.#toSend.push(request);
      return;
    }
    this.#aloneUntil = Math.max(this.#aloneUntil, request.id);
    this.#toSend = this.#inOrder(Progress.WAITING);
  }

  /** Forget a request that is answered, cancelled or expired. */
  remove(request) {
    this.#fromFlight(request);
    if (!this.#all.delete(request.id)) return;
    if (!request.internal) {
      this.#calls -= 1;
      this.#bytes -= request.size;
    }
    // Nothing takes them out while there is no connection.
    if (this.#toSend.length > 2 * this.#all.size + MANY) this.#toSend = this.#toSend.filter((one) => this.#all.has(one.id));
  }

  /**
   * Note that nobody waits any more for the answer to a request that is on its way.
   *
   * It leaves the window, so that it keeps nothing waiting, and is not sent again.
   */
  abandon(request) {
    this.#fromFlight(request);
    this.#calls -= 1;
    this.#bytes -= request.size;
    request.internal = request.isAbandoned = true;
    request.deadline = null;
  }

  /** Return the requests whose deadline has passed. */
  expired(now) {
    if (this.#firstDeadline === null || now < this.#firstDeadline) return [];
    const late = [];
    this.#firstDeadline = null;
    for (const request of this.#all.values()) {
      if (request.deadline === null) continue;
      if (request.deadline <= now) late.push(request);
      else this.#firstDeadline = Math.min(this.#firstDeadline ?? request.deadline, request.deadline);
    }
    return late;
  }

  /**
   * Prepare to send everything again on the next connection, in the order of the calls.
   *
   * A request that was on its way may be the cause of the end. So those that were on their way are sent one at a time,
   * until all of them are answered. `blame`: false for an end that the client itself wanted.
   *
   * Return the first of them if it has been lost too often, or null, and the requests that are not sent again because no
   * call waits for them.
   */
  connectionLost(blame) {
    const suspect = this.#inFlight.size && blame ? this.#all.get(first(this.#inFlight.keys())) : null;
    if (suspect !== null) {
      suspect.lost += 1;
      this.#aloneUntil = Math.max(this.#aloneUntil, ...this.#inFlight.keys());
    }
    this.#inFlight.clear();
    this.#inFlightBytes = 0;
    const dropped = [...this.#all.values()].filter((one) => one.internal);
    for (const request of dropped) this.remove(request);
    for (const request of this.#all.values()) {
      request.progress = request.source === null ? Progress.WAITING : Progress.PREPARING;
      if (request.source !== null) this.#setToken(request, "");
    }
    this.#toSend = this.#inOrder(Progress.WAITING);
    this.#urgent = [];
    const isSuspect = suspect !== null && !suspect.internal && suspect.lost >= MAX_TRIES;
    return { suspect: isSuspect ? suspect : null, dropped };
  }

  /** Return the largest request that is on its way, or null: the one that was too big for the hub. */
  largestInFlight() {
    let largest = null;
    for (const id of this.#inFlight.keys()) {
      const request = this.#all.get(id);
      if (largest === null || request.size > largest.size) largest = request;
    }
    return largest;
  }

  /** Remove and return all requests, in their order. */
  takeAll() {
    const found = [...this.#all.values()].sort(byId);
    this.#all.clear();
    this.#toSend = [];
    this.#urgent = [];
    this.#inFlight.clear();
    this.#calls = this.#bytes = this.#inFlightBytes = 0;
    this.#firstDeadline = null;
    return found;
  }

  /** Return the subscriptions for which the application is asked for a token. */
  preparing() {
    return [...this.#all.values()].filter((one) => one.progress === Progress.PREPARING);
  }

  /** Return the calls that were never sent, in their order. */
  neverSent() {
    return [...this.#all.values()].filter((one) => !one.wasSent && !one.internal);
  }

  #setToken(request, token) {
    const change = byteLength(token) - byteLength(request.token);
    request.token = token;
    request.size += change;
    if (!request.internal) this.#bytes += change;
  }

  #nextQueue() {
    for (const queue of [this.#urgent, this.#toSend]) {
      while (queue.length && !this.#all.has(queue[0].id)) queue.shift(); // it was cancelled
      if (queue.length) return queue;
    }
    return null;
  }

  #inOrder(progress) {
    return [...this.#all.values()].filter((one) => one.progress === progress && !one.internal).sort(byId);
  }

  #fromFlight(request) {
    this.#inFlightBytes -= this.#inFlight.get(request.id) ?? 0;
    this.#inFlight.delete(request.id);
  }
}

function first(ids) {
  return ids.next().value;
}

function byId(one, other) {
  return one.id - other.id;
}
