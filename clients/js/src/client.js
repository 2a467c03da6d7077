// A client of the hub that loses no messages, for browsers and Node: a thin shell around the machine, which decides all.
//
//   const client = new WsdClient("ws://127.0.0.1:8000/ws", { user_id: "ann" });
//   client.subscribe("room:1", (message) => console.log(message.data));
//   await client.publish("room:1", { text: "hi" }); // resolves once the message is stored

import { End } from "./ends.js";
import { CANCELLED, WsdError } from "./errors.js";
import { Machine } from "./machine.js";
import { SETTINGS } from "./settings.js";
import { reasonOf } from "./texts.js";

/** A longer delay overflows setTimeout, which then fires at once. */
const LONGEST_DELAY = 2 ** 31 - 1;

/** How long the close event may take after an error of an open WebSocket. It has the close code, but not all send it. */
const CLOSE_EVENT_MILLISECONDS = 1000;

/** How the package ws reports the HTTP status that refused a handshake. Others do not tell it. */
const REFUSED = /^Unexpected server response: (\d{3})$/;

const NOT_OPENED = "the connection could not be opened";

/** What may be sent as a subprotocol (RFC 9110, 5.6.2). */
const SUBPROTOCOL = /^[\w!#$%&'*+.^`|~-]+$/;

const NO_WEBSOCKET =
  "there is no WebSocket here: use Node 22 or newer, run Node 20 with --experimental-websocket, " +
  'or pass a class, such as that of the package ws: new WsdClient(url, { WebSocket: (await import("ws")).WebSocket })';

const HANDLERS = ["onmessage", "ongap", "onpresence"];

/** A client of the hub. It connects by itself, and comes back by itself. */
export class WsdClient {
  onstate = null; // (name, state)
  onmessage = null; // (message)
  ongap = null; // ({ channel, reason })
  onpresence = null; // (event)
  onleft = null; // ({ channel, code, message })
  onerror = null; // (error): a callback has thrown

  #url;
  #query;
  #token;
  #WebSocket;
  #requestTimeout;
  #machine;
  #started = false;
  #queue = []; // effects that are not carried out yet
  #isCarryingOut = false;
  #calls = new Map(); // by number: the promises of calls
  #handlers = new Map(); // by channel: a set of handlers
  #attempt = 0; // of the WebSocket
  #socket = null;
  #closeTimer;
  #timer;
  #timerAt = Infinity;
  #onwake = (event) => {
    if (event.type === "pageshow" && !event.persisted) return; // the page was just loaded
    if (event.type === "visibilitychange" && globalThis.document.visibilityState !== "visible") return;
    this.#event((now) => this.#machine.wake(now));
  };

  /** Throws TypeError for a URL or an option that cannot be. */
  constructor(url, options = {}) {
    const {
      token = null,
      WebSocket = globalThis.WebSocket,
      requestTimeout = SETTINGS.requestTimeout * 1000,
      pingInterval = SETTINGS.pingInterval * 1000,
      maxWaiting = SETTINGS.maxWaiting,
      maxWaitingBytes = SETTINGS.maxWaitingBytes,
      ...query
    } = options;
    if (typeof WebSocket !== "function") throw new TypeError(NO_WEBSOCKET);
    checkNumbers({ pingInterval, maxWaiting, maxWaitingBytes });
    if (token !== null && typeof token !== "function" && typeof token !== "string") {
      throw new TypeError(`token must be a text or a function, not ${typeof token}`);
    }
    this.#url = webSocketUrl(url);
    this.#query = queryOf(query);
    this.#token = token;
    this.#WebSocket = WebSocket;
    this.#requestTimeout = secondsOf(requestTimeout, "requestTimeout");
    const settings = {
      pingInterval: pingInterval / 1000,
      maxWaiting,
      maxWaitingBytes,
      tokenIsFixed: typeof token !== "function",
      hasName: Boolean(this.#query.get("user_id")), // the hub takes an empty one for none
    };
    this.#machine = new Machine(settings, newRunId(), Math.random);
    // After the caller had the time to set callbacks, which are told of the first attempt, too.
    queueMicrotask(() => {
      if (!this.#started) this.#start((now) => this.#machine.start(now));
    });
  }

  /** The state: `name`, `reason`, `code`, `status`, `retryIn` in milliseconds, `failures`. */
  get state() {
    return inMilliseconds(this.#machine.state);
  }

  /** The latest welcome of the hub, or null: `user_id`, `username`, `worker_id`, `node_id` and so on. */
  get welcome() {
    return this.#machine.welcome;
  }

  /** The calls that have no answer yet: `requests`, and their `bytes`. */
  get waiting() {
    return this.#machine.waiting;
  }

  /**
   * Join a channel. `handler` is a function for its messages, or an object with `onmessage`, `ongap` and `onpresence`.
   * `last`: the newest messages of the history that come first. `token`: a subscription token, or a function that
   * returns one, which is called before each subscription: now, before the token ends, when the hub says that it has
   * ended, and after a reconnect without the channel. Without it, that of an earlier call for the channel counts.
   */
  subscribe(channel, handler = null, options = null) {
    const { last = 0, token = null, ...others } = options ?? {};
    const handlers = this.#handlers.get(channel);
    const isNew = handler !== null && !handlers?.has(handler);
    const answer = this.#ask(others, (now, timeout) => {
      checkHandler(handler);
      if (!Number.isSafeInteger(last) || last < 0) throw new TypeError(`last must be a whole number, not ${last}`);
      if (token !== null && typeof token !== "function" && (typeof token !== "string" || !token)) {
        throw new TypeError(`the token of a channel is a text or a function, not ${typeof token}`);
      }
      const id = this.#machine.subscribe(now, channel, last, timeout, token);
      if (isNew) this.#addHandler(channel, handler);
      return id;
    });
    if (isNew) answer.catch(() => this.#removeHandler(channel, handler));
    return answer;
  }

  /**
   * Leave a channel. Nothing of it is delivered from now on, and its handlers are removed.
   *
   * With a handler, remove this one only, and leave the channel with the last of them. The promise resolves with null
   * where others are left.
   */
  unsubscribe(channel, handler = null, options = null) {
    if (handler !== null) {
      this.#removeHandler(channel, handler);
      if (this.#handlers.has(channel)) return Promise.resolve(null);
    }
    return this.#ask(options, (now, timeout) => {
      checkHandler(handler);
      const id = this.#machine.unsubscribe(now, channel, timeout);
      this.#handlers.delete(channel);
      return id;
    });
  }

  /** Send a message to the members of a channel. The promise resolves once it is stored. */
  publish(channel, data, options) {
    return this.#call("publish", { channel, data }, options);
  }

  /** Send a message to all clients. */
  broadcast(data, options) {
    return this.#call("broadcast", { data }, options);
  }

  /** Send a message to all connections of a user. */
  direct(userId, data, options) {
    return this.#call("direct", { user_id: userId, data }, options);
  }

  /** Ask who is in a channel. */
  presence(channel, options) {
    return this.#call("presence", { channel }, options);
  }

  /** Ask for messages of a channel: up to `limit` after the offset `since`, or before it with `reverse`. */
  history(channel, options = null) {
    const { since, limit, reverse, epoch, ...others } = options ?? {};
    return this.#call("history", { channel, since, limit, reverse, epoch }, others);
  }

  /** Ask whether a user has read a channel up to a position. */
  delivered(channel, userId, position, options) {
    const { offset, epoch } = position ?? {};
    return this.#call("delivered", { channel, user_id: userId, offset, epoch }, options);
  }

  /**
   * Note what the user has read in a channel: up to `position`, which may be a message, or all that was delivered.
   *
   * Throws WsdError for a position that is none.
   */
  markRead(channel, position = null) {
    this.#event((now) => this.#machine.markRead(now, channel, position));
  }

  /** Begin a new connection at once, whatever the state. Throws WsdError after `close`. */
  reconnect() {
    this.#start((now) => this.#machine.reconnect(now));
  }

  /** End the client and its session. Calls without an answer are rejected with `closed`. */
  close() {
    this.#start((now) => this.#machine.close(now));
    this.#handlers.clear();
  }

  /** Cancel all calls that were never sent. Return how many they were. */
  discardWaiting() {
    return this.#event((now) => this.#machine.discardWaiting(now));
  }

  // Calls

  #call(kind, fields, options) {
    return this.#ask(options, (now, timeout) => this.#machine.call(now, kind, fields, timeout));
  }

  /** Make a call. Return the promise of its answer, which may be ignored: it never counts as an unhandled rejection. */
  #ask(options, begin) {
    const answer = new Promise((resolve, reject) => {
      const { timeout, signal = null } = options ?? {};
      const seconds = timeout === undefined ? this.#requestTimeout : secondsOf(timeout, "timeout");
      if (signal !== null && typeof signal?.addEventListener !== "function") {
        throw new TypeError("signal must be an AbortSignal");
      }
      if (signal?.aborted) throw new WsdError(CANCELLED, "cancelled by the application", { cause: signal.reason });
      const id = begin(secondsNow(), seconds);
      const onabort = () => this.#event((now) => this.#machine.cancel(now, id));
      signal?.addEventListener("abort", onabort);
      this.#calls.set(id, { resolve, reject, signal, onabort });
      this.#carryOut();
    });
    answer.catch(() => {});
    return answer;
  }

  /** Return the promise of a call that is answered. */
  #answered(id) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    call.signal?.removeEventListener("abort", call.onabort);
    return call;
  }

  #addHandler(channel, handler) {
    const handlers = this.#handlers.get(channel);
    if (handlers === undefined) this.#handlers.set(channel, new Set([handler]));
    else handlers.add(handler);
  }

  #removeHandler(channel, handler) {
    const handlers = this.#handlers.get(channel);
    handlers?.delete(handler);
    if (handlers?.size === 0) this.#handlers.delete(channel);
  }

  // Events and effects

  #start(act) {
    this.#started = true;
    this.#event(act);
  }

  /** Report an event to the machine, and do what it wants done. */
  #event(act) {
    try {
      return act(secondsNow());
    } finally {
      this.#carryOut();
    }
  }

  /**
   * Carry out all effects in their order. A callback that calls the client meanwhile only adds effects, which follow.
   */
  #carryOut() {
    for (const effect of this.#machine.takeEffects()) this.#queue.push(effect);
    if (this.#isCarryingOut) return;
    this.#isCarryingOut = true;
    try {
      while (this.#queue.length) this.#perform(this.#queue.shift());
    } finally {
      this.#isCarryingOut = false;
    }
    this.#setTimer();
  }

  #perform(effect) {
    switch (effect.type) {
      case "AskToken":
      case "AskNewToken":
        return this.#askToken(effect.attempt);
      case "AskChannelToken":
        return this.#askChannelToken(effect);
      case "Connect":
        return this.#open(effect);
      case "Send":
        return this.#send(effect);
      case "Disconnect":
        return this.#disconnect(effect);
      case "Resolve":
        return this.#answered(effect.request).resolve(effect.answer);
      case "Reject": {
        const { request, code, message } = effect;
        const { reject, signal } = this.#answered(request);
        const wasAborted = code === CANCELLED && signal?.aborted;
        return reject(new WsdError(code, message, wasAborted ? { cause: signal.reason } : undefined));
      }
      case "Deliver":
        return this.#tell("onmessage", effect.message.channel, effect.message);
      case "Gap":
        return this.#tell("ongap", effect.channel, { channel: effect.channel, reason: effect.reason });
      case "PresenceChanged":
        return this.#tell("onpresence", effect.event.channel, effect.event);
      case "Left": {
        const { channel, code, message } = effect;
        this.#handlers.delete(channel);
        return this.#guard(() => this.onleft?.({ channel, code, message }));
      }
      default: {
        this.#listen(effect.state.name !== "closed");
        const state = inMilliseconds(effect.state);
        return this.#guard(() => this.onstate?.(state.name, state));
      }
    }
  }

  #setTimer() {
    const deadline = this.#machine.deadline;
    if (deadline === null) {
      clearTimeout(this.#timer);
      this.#timerAt = Infinity;
    } else if (deadline < this.#timerAt) {
      // A timer that is too early is left alone: a tick before the deadline does nothing, and the next timer follows.
      clearTimeout(this.#timer);
      this.#timerAt = deadline;
      const delay = Math.min(LONGEST_DELAY, Math.max(0, (deadline - secondsNow()) * 1000));
      this.#timer = setTimeout(() => {
        this.#timerAt = Infinity;
        this.#event((now) => this.#machine.tick(now));
      }, delay);
    }
  }

  /** Hear from the browser that the network is back, or that the page can be seen again. Node tells nothing. */
  #listen(on) {
    for (const [target, names] of [
      [globalThis, ["online", "pageshow"]],
      [globalThis.document, ["visibilitychange", "resume"]],
    ]) {
      const change = on ? target?.addEventListener : target?.removeEventListener;
      if (typeof change !== "function") continue;
      for (const name of names) change.call(target, name, this.#onwake);
    }
  }

  // The transport

  #askToken(attempt) {
    if (typeof this.#token !== "function") {
      this.#event((now) => this.#machine.tokenReady(now, attempt, this.#token || null));
      return;
    }
    askFor(
      this.#token,
      (token) => this.#event((now) => this.#machine.tokenReady(now, attempt, token)),
      (problem) => this.#event((now) => this.#machine.tokenFailed(now, attempt, problem)),
    );
  }

  #askChannelToken({ request, source }) {
    askFor(
      source,
      (token) => this.#event((now) => this.#machine.channelTokenReady(now, request, token)),
      (problem) => this.#event((now) => this.#machine.channelTokenFailed(now, request, problem)),
    );
  }

  #open({ attempt, query, token }) {
    const url = new URL(this.#url);
    for (const [name, value] of [...this.#query, ...Object.entries(query)]) url.searchParams.set(name, value);
    let socket;
    try {
      socket = new this.#WebSocket(url.href, token === null ? [] : ["wsd.bearer", token]);
    } catch (error) {
      const isSendable = token === null || SUBPROTOCOL.test(token);
      // What the error says is not shown where it repeats the token.
      const reason = isSendable ? reasonOf(error) : "no token: it has characters that cannot be sent";
      this.#event((now) => this.#machine.ended(now, attempt, new End({ reason, final: true })));
      return;
    }
    this.#attempt = attempt;
    this.#socket = socket;
    let isOpen = false;
    const ended = (fields) => {
      if (socket !== this.#socket) return;
      this.#release();
      this.#event((now) => this.#machine.ended(now, attempt, new End(fields)));
    };
    socket.onopen = () => {
      isOpen = true;
      this.#event((now) => this.#machine.opened(now, attempt));
    };
    socket.onmessage = ({ data }) => {
      // The hub sends no binary frames.
      if (typeof data === "string") this.#event((now) => this.#machine.received(now, attempt, data));
    };
    socket.onclose = ({ code, reason }) => ended({ code, reason: reason || (isOpen ? "" : NOT_OPENED) });
    socket.onerror = ({ message }) => {
      // Node 20 and 22 have no close event if the handshake fails.
      if (isOpen) this.#closeTimer = setTimeout(ended, CLOSE_EVENT_MILLISECONDS, {});
      else ended(failureIn(message));
    };
  }

  #send({ attempt, text }) {
    if (attempt !== this.#attempt) return;
    try {
      this.#socket?.send(text);
    } catch {
      // It has ended, and its close event follows.
    }
  }

  #disconnect({ attempt, code }) {
    if (attempt !== this.#attempt || this.#socket === null) return;
    const socket = this.#release();
    try {
      socket.close(code);
    } catch {
      // It is of no use any more, whatever state it is in.
    }
  }

  /** Hear nothing more of the WebSocket. Return it. */
  #release() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#closeTimer);
    // Functions instead of null, because the package ws throws an error that nobody listens to.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = nothing;
    return socket;
  }

  // Callbacks

  #tell(name, channel, event) {
    const handlers = this.#handlers.get(channel) ?? [];
    for (const handler of [...handlers]) {
      if (this.#handlers.get(channel)?.has(handler)) this.#guard(() => callHandler(handler, name, event));
    }
    this.#guard(() => this[name]?.(event));
  }

  /** Call a callback. What it throws changes nothing here, and neither does a promise that rejects. */
  #guard(callback) {
    try {
      const result = callback();
      if (typeof result?.then === "function") Promise.resolve(result).catch((error) => this.#report(error));
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error) {
    if (typeof this.onerror !== "function") {
      log(error);
      return;
    }
    try {
      const result = this.onerror(error);
      if (typeof result?.then === "function") Promise.resolve(result).catch(log);
    } catch (another) {
      log(error);
      log(another);
    }
  }
}

/** Ask the application for a token. `ready` gets a text, or null for none; `failed` why it could not be had. */
function askFor(source, ready, failed) {
  const given = (token) => {
    if (token === null || token === undefined || token === "") ready(null);
    else if (typeof token === "string") ready(token);
    else failed(`it is no text, but ${typeof token}`);
  };
  new Promise((resolve) => resolve(source())).then(given, (error) => failed(reasonOf(error)));
}

function callHandler(handler, name, event) {
  if (typeof handler !== "function") return handler[name]?.(event);
  return name === "onmessage" ? handler(event) : undefined;
}

function checkHandler(handler) {
  if (handler === null || typeof handler === "function") return;
  if (!HANDLERS.some((name) => typeof handler[name] === "function")) {
    throw new TypeError(`a handler is a function, or has one of ${HANDLERS.join(", ")}; options come after it`);
  }
}

function checkNumbers(options) {
  for (const [name, value] of Object.entries(options)) {
    if (typeof value !== "number" || !(value > 0)) throw new TypeError(`${name} must be a number above 0, not ${value}`);
  }
}

/** Return the end that an error before the end of the handshake is. Browsers tell no reason, and Node 20 tells none. */
function failureIn(message) {
  const text = typeof message === "string" ? message : "";
  const refused = REFUSED.exec(text);
  if (refused) return { status: Number(refused[1]) };
  return { reason: text && !text.includes("non-101") ? text : NOT_OPENED };
}

function inMilliseconds(state) {
  return Object.freeze({ ...state, retryIn: state.retryIn === null ? null : state.retryIn * 1000 });
}

function log(error) {
  console.error("wsd-client: a callback has failed:", error);
}

function newRunId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function nothing() {}

function queryOf(options) {
  const query = new Map();
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    if (!["string", "number", "boolean"].includes(typeof value)) {
      throw new TypeError(`there is no option ${name}, and a ${typeof value} cannot be part of the URL`);
    }
    query.set(name, String(value));
  }
  return query;
}

function secondsOf(milliseconds, name) {
  if (milliseconds === null || milliseconds === Infinity) return null;
  if (typeof milliseconds === "number" && milliseconds >= 0) return milliseconds / 1000;
  throw new TypeError(`${name} must be a number of milliseconds or null, not ${milliseconds}`);
}

function secondsNow() {
  return performance.now() / 1000;
}

/** Return the URL of a WebSocket. Throws TypeError. */
function webSocketUrl(given) {
  let url;
  try {
    url = new URL(given, globalThis.location?.href);
  } catch {
    throw new TypeError(`this is no URL: ${given}`);
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new TypeError(`the URL of a WebSocket begins with ws: or wss:, not ${url.protocol}`);
  }
  url.hash = ""; // a WebSocket refuses it
  return url;
}
