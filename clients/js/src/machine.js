// The client as a state machine: events go in, effects come out. No I/O, no clock of its own.
//
//     NEW -> TOKEN -> HANDSHAKE -> WELCOME -> OPEN
//                \________\__________\_______\_-> PAUSE -> TOKEN -> ...
//                                               \-> IDLE  -> TOKEN, with the next call
//                                               \-> OVER     (by `close` or by the server)
//
// The application sees NEW, TOKEN, HANDSHAKE and WELCOME as `connecting`, OPEN as `open`, PAUSE and IDLE as `waiting`,
// and OVER as `closed`. docs/clients.md is the specification. The same machine in Python is clients/python/machine.py,
// and clients/cases/ has the table of cases that both pass.
//
// Each method that takes an event takes the time first, in seconds by any clock that does not step back. Its effects
// are taken afterwards with `takeEffects`. Each attempt to connect has a number. Events of an earlier attempt are
// ignored.

import { Conversation, isObject } from "./conversation.js";
import { askToken, connect, disconnect, newState, send, stateChanged } from "./effects.js";
import { End, Sequel, TOO_BIG_CODE, sequel } from "./ends.js";
import { CLOSED, WsdError } from "./errors.js";
import {
  ANSWER_SECONDS,
  FIRST_PAUSE_SECONDS,
  GRACE_SECONDS,
  HANDSHAKE_SECONDS,
  LATE_SECONDS,
  LIVED_SECONDS,
  LONGEST_PAUSE_SECONDS,
  LONGEST_RETRY_AFTER_SECONDS,
  MAX_GRACES,
  PONG_SECONDS,
  SETTINGS,
  TOKEN_SECONDS,
  WELCOME_SECONDS,
} from "./settings.js";
import { encoded, isText } from "./texts.js";
import { earliest } from "./times.js";

/** The close code that ends the session, too. */
const GOODBYE = 1000;

/** The close code of a client that gives a connection up and comes back. */
const AWAY = 4000;

const Phase = Object.freeze({
  NEW: "new",
  TOKEN: "token",
  HANDSHAKE: "handshake",
  WELCOME: "welcome",
  OPEN: "open",
  PAUSE: "pause",
  IDLE: "idle",
  OVER: "over",
});

const CONNECTED = new Set([Phase.HANDSHAKE, Phase.WELCOME, Phase.OPEN]);

const TOO_LONG = new Map([
  [Phase.TOKEN, "no token: the function did not return in time"],
  [Phase.HANDSHAKE, "the server did not answer the handshake in time"],
  [Phase.WELCOME, "no welcome came in time"],
]);

/** One client, from its first attempt to its end. */
export class Machine {
  state = newState("connecting");
  welcome = null; // the latest welcome
  #settings;
  #random;
  #effects = [];
  #conversation;
  #phase = Phase.NEW;
  #attempt = 0;
  #phaseEndsAt = null;
  #graceUntil = -Infinity; // no time is over before that: the process has just slept
  #graces = 0; // times in a row that the process seems to have slept, without a sign of life from outside
  #openedAt = 0; // the last welcome came then
  #heardAt = 0; // the last word of the hub came then
  #deadAt = null; // the connection counts as lost then, if the hub does not answer the ping
  #failures = 0;
  #resumeToken = "";
  #resumes = false; // the client has positions to show, if not a session
  #guest = {}; // the name that the hub has given a client without one
  #closedByApplication = false;
  #sentToken = false;

  /** `runId` makes idempotency keys unique among all clients. `random` returns numbers from 0 to below 1. */
  constructor(settings, runId, random) {
    this.#settings = { ...SETTINGS, ...settings };
    this.#random = random;
    this.#conversation = new Conversation(this.#settings, runId, random, (effect) => this.#effects.push(effect));
  }

  /** Return what is to be done since the last call, in its order. */
  takeEffects() {
    const effects = this.#effects.slice();
    this.#effects.length = 0; // the conversation adds to the same array
    return effects;
  }

  /** The number of requests that have no answer yet, and their bytes. */
  get waiting() {
    const { size, bytes } = this.#conversation.requests;
    return { requests: size, bytes };
  }

  /** When `tick` must be called, unless another event comes before; or null. */
  get deadline() {
    const times = [this.#conversation.deadline(this.#graceUntil), this.#phaseOverAt()];
    if (this.#phase === Phase.OPEN) times.push(this.#deadAt ?? this.#pingAt());
    return earliest(times);
  }

  // Events of the application

  /** Make the first attempt. */
  start(now) {
    this.#connect(now);
  }

  /**
   * Send a request, now or once there is a connection. Return the number with which its answer comes. `timeout` is in
   * seconds; null waits for ever.
   *
   * Throws WsdError.
   */
  call(now, kind, fields, timeout) {
    this.#checkOpen();
    const request = this.#conversation.call(now, kind, fields, timeout);
    this.#goOn(now);
    return request;
  }

  /**
   * Join a channel, with the `last` messages of its history. Return the number with which the answer comes. `token`: a
   * text, or anything else that the effects AskChannelToken then have as `source`.
   *
   * Throws WsdError.
   */
  subscribe(now, channel, last, timeout, token = null) {
    this.#checkOpen();
    const request = this.#conversation.subscribe(now, channel, last, timeout, token);
    this.#goOn(now);
    return request;
  }

  /** Leave a channel. Return the number with which the answer comes. Throws WsdError. */
  unsubscribe(now, channel, timeout) {
    this.#checkOpen();
    const request = this.#conversation.unsubscribe(now, channel, timeout);
    this.#goOn(now);
    return request;
  }

  /** Forget a call. It is rejected with `cancelled`. */
  cancel(now, request) {
    this.#conversation.cancel(request);
    this.#goOn(now);
  }

  /** Cancel all calls that were never sent. Return how many they were. */
  discardWaiting(now) {
    const count = this.#conversation.discardWaiting();
    this.#goOn(now);
    return count;
  }

  /** Tell the hub what the application has read in a channel that keeps receipts. Throws WsdError. */
  markRead(now, channel, position = null) {
    this.#conversation.markRead(now, channel, position);
    this.#goOn(now);
  }

  /** Take no more messages: the application does not keep up. */
  holdMessages(now) {
    this.#conversation.holdMessages();
  }

  /** Take messages again. The client reconnects for those that it has passed by. */
  takeMessages(now) {
    if (this.#conversation.takeMessages() && this.#phase === Phase.OPEN) this.reconnect(now);
  }

  /** Begin a new connection at once, whatever the state. Throws WsdError after `close`. */
  reconnect(now) {
    if (this.#closedByApplication) throw new WsdError(CLOSED, this.state.reason);
    this.#abandon(AWAY);
    if (this.#phase === Phase.OPEN) this.#conversation.lost(new End(), { blame: false });
    this.#failures = 0;
    this.#connect(now);
  }

  /** Note that the network may be back, or that the page can be seen again: try at once. */
  wake(now) {
    if (this.#phase === Phase.PAUSE) {
      this.#connect(now);
    } else if (this.#phase === Phase.HANDSHAKE) {
      // The attempt may have begun on a network that is gone.
      this.#phaseEndsAt = Math.min(this.#phaseEndsAt, now + GRACE_SECONDS);
    } else if (this.#phase === Phase.OPEN) {
      const waitsUntil = this.#deadAt;
      this.#ping(now, GRACE_SECONDS);
      // A client that is woken again and again must notice it, too.
      if (waitsUntil !== null) this.#deadAt = Math.min(waitsUntil, now + GRACE_SECONDS);
    }
  }

  /** End the client and its session. */
  close(now) {
    if (this.#closedByApplication) return;
    this.#closedByApplication = true;
    this.#abandon(GOODBYE);
    this.#phase = Phase.OVER;
    this.#phaseEndsAt = null;
    const reason = "closed by the application";
    this.#change(newState("closed", { reason }));
    this.#conversation.over(reason);
  }

  // Events of the transport

  /** The application has given a token, or null for a client without one. */
  tokenReady(now, attempt, token) {
    if (attempt !== this.#attempt) return;
    if (this.#phase === Phase.OPEN) {
      this.#conversation.refresh(token);
      this.#goOn(now);
    }
    if (this.#phase !== Phase.TOKEN) return;
    this.#sentToken = token !== null;
    this.#enter(now, Phase.HANDSHAKE, HANDSHAKE_SECONDS);
    const query = token === null ? { ...this.#guest } : {};
    if (this.#resumes) query.resume = "1";
    this.#effects.push(connect(attempt, query, token));
  }

  /** The application's token function has failed. An open connection goes on with the token that it has. */
  tokenFailed(now, attempt, problem) {
    if (attempt === this.#attempt && this.#phase === Phase.TOKEN) {
      this.#lost(now, new End({ reason: `no token: ${problem}` }));
    }
  }

  /** The application has given the token of a channel, or null for a channel without one. */
  channelTokenReady(now, request, token) {
    this.#conversation.channelTokenReady(request, token);
    this.#goOn(now);
  }

  /** The application's function for the token of a channel has failed. */
  channelTokenFailed(now, request, problem) {
    this.#conversation.channelTokenFailed(now, request, problem);
    this.#goOn(now);
  }

  /** The opening handshake is done. */
  opened(now, attempt) {
    if (attempt !== this.#attempt || this.#phase !== Phase.HANDSHAKE) return;
    this.#enter(now, Phase.WELCOME, WELCOME_SECONDS);
    if (this.#resumes) {
      // The token is never in the URL, because URLs are logged.
      const since = Object.fromEntries(this.#conversation.channels.positions);
      const [text] = encoded({ type: "resume", token: this.#resumeToken, since });
      this.#effects.push(send(attempt, text));
    }
  }

  /** The hub has sent a text. */
  received(now, attempt, text) {
    if (attempt !== this.#attempt || (this.#phase !== Phase.WELCOME && this.#phase !== Phase.OPEN)) return;
    this.#heardAt = now;
    this.#deadAt = null;
    this.#graces = 0;
    let message = null;
    try {
      message = JSON.parse(text);
    } catch {
      // No JSON is treated like JSON that is no object.
    }
    if (!isObject(message)) {
      this.#giveUp(now, "the server sent something else than JSON objects");
    } else if (this.#phase === Phase.OPEN) {
      this.#conversation.received(now, message);
      this.#goOn(now);
    } else if (message.type === "welcome") {
      this.#welcomed(now, message);
    }
  }

  /** The WebSocket has ended, or could not be opened. */
  ended(now, attempt, end) {
    if (attempt === this.#attempt && CONNECTED.has(this.#phase)) this.#lost(now, end);
  }

  /** Time has passed. */
  tick(now) {
    const due = this.deadline;
    if (this.#hasSlept(now, due)) {
      if (this.#phase === Phase.OPEN) this.#ping(now, GRACE_SECONDS);
    } else if (due !== null && now - due <= LATE_SECONDS) {
      this.#graces = 0;
    }
    const overAt = this.#phaseOverAt();
    if (overAt !== null && now >= overAt) {
      if (this.#phase === Phase.PAUSE) this.#connect(now);
      else this.#giveUp(now, TOO_LONG.get(this.#phase));
    } else if (this.#phase === Phase.OPEN) {
      if (this.#deadAt !== null && now >= this.#deadAt) this.#giveUp(now, "the server does not answer");
      else if (this.#deadAt === null && now >= this.#pingAt()) this.#ping(now, PONG_SECONDS);
    }
    this.#goOn(now);
  }

  // Transitions

  #connect(now) {
    this.#attempt += 1;
    this.#enter(now, Phase.TOKEN, TOKEN_SECONDS);
    const { reason, code, status } = this.state; // what is known of the last end
    this.#change(newState("connecting", { reason, code, status, failures: this.#failures }));
    this.#effects.push(askToken(this.#attempt));
  }

  #enter(now, phase, seconds) {
    this.#phase = phase;
    this.#phaseEndsAt = now + seconds;
    this.#graces = 0;
  }

  /** Return when the phase is over at the latest. A pause is not prolonged by a sleep of the process. */
  #phaseOverAt() {
    if (this.#phaseEndsAt === null || this.#phase === Phase.PAUSE) return this.#phaseEndsAt;
    return Math.max(this.#phaseEndsAt, this.#graceUntil);
  }

  #welcomed(now, welcome) {
    if (!isObject(welcome.channels)) {
      this.#giveUp(now, "the server sent a welcome without channels");
      return;
    }
    this.#phase = Phase.OPEN;
    this.#phaseEndsAt = null;
    this.#openedAt = now;
    this.welcome = welcome;
    this.#resumeToken = isText(welcome.resume_token) ? welcome.resume_token : "";
    this.#resumes = true;
    if (!this.#sentToken && !this.#settings.hasName) {
      const names = ["user_id", "username"].map((key) => [key, welcome[key]]);
      this.#guest = Object.fromEntries(names.filter(([, name]) => isText(name) && name));
    }
    this.#change(newState("open"));
    this.#conversation.welcomed(now, this.#attempt, welcome);
    this.#goOn(now);
  }

  #lost(now, end) {
    // The positions of all channels are too much for this hub.
    if (this.#phase === Phase.WELCOME && end.code === TOO_BIG_CODE) this.#resumes = false;
    if (this.#phase === Phase.OPEN) {
      if (now - this.#openedAt >= LIVED_SECONDS) this.#failures = 0;
      this.#conversation.lost(end);
    }
    const what = sequel(end, { tokenIsFixed: this.#settings.tokenIsFixed, wasWelcomed: this.welcome !== null });
    const reason = String(end);
    const { code, status } = end;
    if (what === Sequel.STAY_AWAY) {
      if (end.endsSession) this.#resumeToken = "";
      this.#phase = Phase.OVER;
      this.#phaseEndsAt = null;
      this.#change(newState("closed", { reason, code, status, failures: this.#failures }));
      this.#conversation.over(reason);
    } else if (what === Sequel.WAIT_FOR_A_CALL && this.#conversation.requests.size === 0) {
      this.#phase = Phase.IDLE;
      this.#phaseEndsAt = null;
      this.#change(newState("waiting", { reason, code }));
    } else {
      // Full jitter: the clients of a worker that has ended must not all come back at the same moment.
      const longest = Math.min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** Math.min(this.#failures, 10));
      const asked = Math.min(Math.max(0, end.retryAfter), LONGEST_RETRY_AFTER_SECONDS);
      const retryIn = asked + longest * this.#random();
      this.#failures += 1;
      this.#enter(now, Phase.PAUSE, retryIn);
      this.#change(newState("waiting", { reason, code, status, retryIn, failures: this.#failures }));
    }
  }

  /** End the attempt or the connection from this side, and come back. */
  #giveUp(now, reason) {
    this.#abandon(AWAY);
    this.#lost(now, new End({ reason }));
  }

  #abandon(code) {
    if (CONNECTED.has(this.#phase)) this.#effects.push(disconnect(this.#attempt, code));
  }

  /**
   * Return whether the process has slept since a time at which it was to act.
   *
   * What the hub said meanwhile may lie unread, so nothing is over yet.
   */
  #hasSlept(now, due) {
    if (due === null || now - due <= LATE_SECONDS || this.#graces >= MAX_GRACES) return false;
    this.#graces += 1;
    this.#graceUntil = now + GRACE_SECONDS;
    return true;
  }

  /** Do what an event has made possible. Any event may be the first after a sleep. */
  #goOn(now) {
    this.#hasSlept(now, this.#conversation.expiry(this.#graceUntil));
    if (this.#phase === Phase.IDLE && this.#conversation.requests.size > 0) this.#connect(now);
    if (this.#phase !== Phase.OVER) this.#conversation.act(now, this.#graceUntil);
  }

  #ping(now, patience) {
    this.#deadAt = now + patience;
    this.#conversation.ping(now);
  }

  /** Return when a silent connection is tried with a ping. */
  #pingAt() {
    const sentAt = this.#conversation.requests.oldestSentAt;
    const quietUntil = this.#heardAt + this.#settings.pingInterval;
    return sentAt === null ? quietUntil : Math.min(quietUntil, Math.max(this.#heardAt, sentAt) + ANSWER_SECONDS);
  }

  #checkOpen() {
    if (this.#phase === Phase.OVER) throw new WsdError(CLOSED, this.state.reason);
  }

  #change(state) {
    this.state = state;
    this.#effects.push(stateChanged(state));
  }
}
