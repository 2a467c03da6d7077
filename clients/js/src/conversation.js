// The client's side of the conversation with the hub: calls and their answers, channels and their messages. No I/O.

import { ChannelTokens } from "./channel_tokens.js";
import { Channels, OWN_CHANNELS, positionIn } from "./channels.js";
import { askNewToken, deliver, gap, left, presenceChanged, reject, resolve, send } from "./effects.js";
import { TOO_BIG_CODE } from "./ends.js";
import {
  CANCELLED,
  CLOSED,
  INVALID_CHANNEL,
  NO_TOKEN,
  NOT_ENCODABLE,
  TIMEOUT,
  TOO_BIG,
  UNANSWERED,
  WsdError,
} from "./errors.js";
import { OwnToken } from "./own_token.js";
import { Pacing } from "./pacing.js";
import { Progress, Request, Requests } from "./requests.js";
import { FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, MAX_TRIES, READ_SECONDS } from "./settings.js";
import { byteLength, encoded, isText } from "./texts.js";
import { earliest } from "./times.js";

/** Requests that are sent with an idempotency key, so that the hub carries them out once. */
const KEYED = new Set(["publish", "broadcast", "direct"]);

/** Error codes of a hub that can carry out the same request later. */
const RETRIED = new Set(["rate_limited", "byte_rate_limited", "not_stored", "unavailable"]);

const ANSWERS = new Set(["ack", "pong", "presence", "history", "delivered"]);

/** The reason why a client is out of a channel that it may enter again with another token. */
const TOKEN_NEEDED = "token_needed";

/** The reason why a client is out of a channel from which the application of the hub has taken it. */
const TAKEN_OUT = "server";

const TAKEN_OUT_TEXT = "the server has taken the client out of the channel";

/** The reason why a client is out of a channel that the hub had put it into, and that its new session does not have. */
const SESSION_LOST = "session_lost";

/** About the size of a subscription without the channel's name. Its text is made when it is sent. */
const SUBSCRIBE_BYTES = 300;

/** What a client and the hub say to each other, over one connection after the other. */
export class Conversation {
  requests;
  channels = new Channels();
  #ownToken;
  #channelTokens;
  #random;
  #emit;
  #runId;
  #nextId = 1;
  #attempt = null; // the connection that is open
  #pacing = new Pacing(null, 0);
  #maxMessageBytes = null; // as far as a welcome has said
  #sendAt = null; // the pace allows the next request then
  #heldUntil = null; // after the hub could not carry out a request
  #retries = 0; // refusals for the moment, in a row
  #subscribed = new Map(); // by channel: answers to subscriptions, whose acks follow
  #read = new Map(); // by channel: positions that the application has read, and the hub has not confirmed
  #readAt = null; // when the hub is told, or may be told again
  #tellingRead = false; // a ping that tells it has no answer yet
  #holding = false; // the application does not keep up
  #passedBy = new Set(); // channels of messages that came meanwhile

  /** `runId` makes idempotency keys unique among all clients. `random` returns numbers from 0 to below 1. */
  constructor(settings, runId, random, emit) {
    this.requests = new Requests(settings);
    this.#ownToken = new OwnToken(random, settings.tokenIsFixed);
    this.#channelTokens = new ChannelTokens(random, emit);
    this.#random = random;
    this.#emit = emit;
    this.#runId = runId;
  }

  // Calls of the application

  /**
   * Queue a request. Return its number, with which the answer comes.
   *
   * Throws WsdError for data that cannot be sent, and if too much waits already.
   */
  call(now, kind, fields, timeout) {
    const id = this.#nextId;
    if (Object.hasOwn(fields, "channel")) checkChannel(fields.channel);
    if (KEYED.has(kind) && fields.data === undefined) {
      throw new WsdError(NOT_ENCODABLE, "this cannot be sent as JSON: undefined");
    }
    const request = { type: kind, ...fields, id };
    if (KEYED.has(kind)) request.idempotency_key = `${this.#runId}-${id}`;
    const [text, size] = encoded(request);
    this.#checkSize(size);
    let channel = fields.channel ?? "";
    if (kind === "broadcast") channel = "broadcast";
    else if (kind === "direct") channel = `!${fields.user_id}`;
    this.#add(new Request(id, kind, text, size, { channel, deadline: deadlineOf(now, timeout) }));
    return id;
  }

  /**
   * Queue a request to join a channel. `last`: how many of the newest messages the application wants first. `token`: a
   * text, or what the application is asked with for one; null for that of an earlier call, if there is one.
   *
   * Throws WsdError for a name that no channel can have, and if too much waits already.
   */
  subscribe(now, channel, last, timeout, token = null) {
    checkJoinable(channel);
    const { id } = this.#join(channel, token, { last, deadline: deadlineOf(now, timeout) });
    this.channels.change(channel, (membership) => {
      membership.called(id, true);
      membership.token = token ?? membership.token;
    });
    return id;
  }

  /**
   * Queue a request to leave a channel. From now on nothing of the channel is delivered.
   *
   * Throws WsdError for a name that no channel can have, and if too much waits already.
   */
  unsubscribe(now, channel, timeout) {
    checkJoinable(channel);
    const [text, size] = encoded({ type: "unsubscribe", channel, id: this.#nextId });
    const deadline = deadlineOf(now, timeout);
    const request = new Request(this.#nextId, "unsubscribe", text, size, { channel, deadline });
    this.#add(request);
    this.channels.change(channel, (membership) => membership.called(request.id, false));
    this.#passedBy.delete(channel);
    return request.id;
  }

  /** Forget a call. If it was to join a channel, the client does not join it. */
  cancel(id) {
    const request = this.requests.get(id);
    if (request !== null) this.#giveUp(request, CANCELLED, "cancelled by the application");
  }

  /** Cancel all calls that were never sent. Return how many they were. */
  discardWaiting() {
    const found = this.requests.neverSent();
    for (const request of found) this.#giveUp(request, CANCELLED, "discarded by the application");
    return found.length;
  }

  /**
   * Note what the application has read in a channel: up to `position`, or everything that was delivered.
   *
   * Throws WsdError for a position that is none.
   */
  markRead(now, channel, position) {
    checkChannel(channel);
    const at = position === null ? this.channels.positions.get(channel) : positionIn(channel, position);
    if (at === null) throw new WsdError(NOT_ENCODABLE, "a position has an offset and an epoch");
    if (at === undefined) return;
    this.#read.set(channel, at);
    this.#readAt ??= now;
  }

  /** Deliver no more messages: the application does not keep up. */
  holdMessages() {
    this.#holding = true;
  }

  /** Deliver messages again. Return whether the client has to reconnect for those that it has passed by. */
  takeMessages() {
    this.#holding = false;
    const passedBy = [...this.#passedBy].sort();
    this.#passedBy.clear();
    for (const channel of passedBy) {
      if (!this.channels.positions.has(channel)) this.#emit(gap(channel, "slow_consumer"));
    }
    return passedBy.some((channel) => this.channels.positions.has(channel));
  }

  /** Show the hub another token of the client itself, if the application was asked for one. */
  refresh(token) {
    if (!this.#ownToken.answered() || !isText(token)) return;
    const [text, size] = encoded({ type: "refresh", token, id: this.#nextId });
    this.#add(new Request(this.#nextId, "refresh", text, size, { internal: true }));
  }

  /** Note the token of a channel, or null if it has none. */
  channelTokenReady(id, token) {
    const request = this.#channelTokens.take(id);
    if (request !== null) this.requests.prepared(request, token ?? "");
  }

  /** Note that the application gave no token of a channel. */
  channelTokenFailed(now, id, problem) {
    const request = this.#channelTokens.failed(now, id);
    if (request !== null) this.#refused(request, NO_TOKEN, `no token: ${problem}`);
  }

  // The connection

  /** Begin to talk over a new connection: enter the channels, and send what waits. */
  welcomed(now, attempt, welcome) {
    this.#attempt = attempt;
    this.#pacing = new Pacing(isObject(welcome.limits) ? welcome.limits : null, now);
    this.#maxMessageBytes = this.#pacing.maxMessageBytes;
    this.#heldUntil = null;
    const states = new Map(Object.entries(welcome.channels).filter(([, state]) => isObject(state)));
    for (const [channel, reason] of Object.entries(isObject(welcome.refused) ? welcome.refused : {})) {
      if (this.channels.isByHub(channel)) this.#takenOut(channel, textIn(reason));
    }
    const { lost, gaps } = this.channels.welcomed(states);
    for (const channel of lost) {
      this.#passedBy.delete(channel);
      if (welcome.resumed === true) this.#emit(left(channel, TAKEN_OUT, TAKEN_OUT_TEXT));
      else this.#emit(left(channel, SESSION_LOST, "the new session is not in the channel, unlike the one before"));
    }
    for (const each of gaps) this.#emit(each);
    for (const channel of [...this.channels.memberships.keys()]) this.#repair(channel);
    this.#ownToken.expiresIn(now, welcome.token_expires_in);
    if (this.#read.size) this.#readAt = now;
  }

  /**
   * Note that the connection has ended. What is unanswered is sent again on the next one.
   *
   * `blame`: a request that was on its way may be the cause.
   */
  lost(end, { blame = true } = {}) {
    this.#hangUp();
    this.#subscribed.clear();
    const largest = this.requests.largestInFlight();
    if (end.code === TOO_BIG_CODE && largest !== null) {
      this.#refused(largest, TOO_BIG, "the hub has closed the connection because the message is too big");
    }
    const { suspect, dropped } = this.requests.connectionLost(blame);
    for (const request of dropped) {
      this.#channelTokens.take(request.id);
      this.#giveUpMembership(request, false);
    }
    for (const request of this.requests.preparing()) this.#channelTokens.add(request);
    if (suspect !== null) {
      this.#giveUp(suspect, UNANSWERED, `the connection was lost ${MAX_TRIES} times before an answer came`);
    }
  }

  /** Reject all calls: the client is closed. */
  over(reason) {
    this.#hangUp();
    for (const request of this.requests.takeAll()) {
      this.#channelTokens.take(request.id);
      this.#giveUpMembership(request, false);
      if (!request.internal) this.#emit(reject(request.id, CLOSED, reason));
    }
  }

  #hangUp() {
    this.#attempt = this.#sendAt = this.#heldUntil = null;
    this.#ownToken.forget();
    this.#channelTokens.hangUp();
    this.#tellingRead = false;
  }

  // Time

  /** Return when `act` must be called again, or null. `graceUntil`: no call expires before. */
  deadline(graceUntil) {
    const readAt = this.#tellingRead ? null : this.#readAt;
    const askAt = [this.#ownToken.askAt, this.#channelTokens.deadline(graceUntil)];
    const times = this.#attempt === null ? [] : [this.#sendAt, this.#heldUntil, readAt, ...askAt];
    return earliest([...times, this.expiry(graceUntil)]);
  }

  /** Return a time before which no call expires, or null. */
  expiry(graceUntil) {
    const { firstDeadline } = this.requests;
    return firstDeadline === null ? null : Math.max(firstDeadline, graceUntil);
  }

  /** Reject calls whose time is over, and send what may be sent. */
  act(now, graceUntil) {
    if (now >= graceUntil) {
      for (const request of this.requests.expired(now)) {
        const hint = request.wasSent ? "it may have been carried out" : "it was never sent";
        this.#giveUp(request, TIMEOUT, `no answer came in time: ${hint}`);
      }
    }
    if (this.#attempt === null) return;
    for (const channel of this.#channelTokens.toRenew(now)) this.#renew(channel);
    if (this.#ownToken.isDue(now)) this.#emit(askNewToken(this.#attempt));
    for (const id of this.#channelTokens.act(now, graceUntil)) {
      this.channelTokenFailed(now, id, "the function did not return in time");
    }
    if (this.#heldUntil !== null && now >= this.#heldUntil) this.#heldUntil = null;
    if (this.#readAt !== null && now >= this.#readAt && !this.#tellingRead) this.#tellRead(now);
    if (this.#heldUntil === null) this.#sendWaiting(now);
  }

  /** Ask the hub for a sign of life. */
  ping(now) {
    this.say(now, '{"type":"ping"}');
  }

  /** Send a text that has no answer of its own. */
  say(now, text) {
    this.#pacing.sent(now, byteLength(text));
    this.#emit(send(this.#attempt, text));
  }

  // What the hub says

  /** Handle a message of the hub. One of an unknown type is ignored: the hub may be newer. */
  received(now, message) {
    const { type, channel } = message;
    if (ANSWERS.has(type) || type === "error") {
      this.#answered(now, message);
    } else if (typeof channel !== "string" || !channel) {
      return;
    } else if (this.#holding && (type === "message" || type === "gap" || type === "position")) {
      if (type !== "position" && this.channels.hears(channel)) this.#passedBy.add(channel);
    } else if (type === "message") {
      if (this.channels.isNew(message)) this.#emit(deliver(message));
    } else if (type === "subscribed") {
      this.#entered(channel, message);
    } else if (type === "unsubscribed") {
      this.#takenOut(channel, textIn(message.reason));
    } else if (!this.channels.hears(channel)) {
      return;
    } else if (type === "gap" || type === "position") {
      this.channels.moved(channel, message);
      if (type === "gap") this.#emit(gap(channel, textIn(message.reason)));
    } else if (type === "presence_changed") {
      this.#emit(presenceChanged(message));
    }
  }

  /** Note the answer to a subscription, whose ack follows, or that the hub has put the client into a channel. */
  #entered(channel, state) {
    const pending = [...(this.channels.memberships.get(channel)?.pending.values() ?? [])];
    if (pending.some(({ joins }) => joins)) {
      this.#subscribed.set(channel, state);
      this.channels.change(channel, (membership) => membership.entered());
    } else {
      this.channels.putIn(channel);
    }
    const found = this.channels.placed(channel, state);
    if (found) this.#emit(found);
  }

  /** Note that the hub has taken the client out of a channel. It goes in again where another token helps. */
  #takenOut(channel, reason) {
    this.#passedBy.delete(channel);
    if (this.channels.takenOut(channel, reason !== TOKEN_NEEDED)) {
      this.#emit(left(channel, reason, TAKEN_OUT_TEXT));
    }
    this.#repair(channel);
  }

  #answered(now, message) {
    const request = this.requests.get(message.id);
    if (request === null || request.progress === Progress.PREPARING || request.progress === Progress.WAITING) return;
    if (message.type === "error") {
      const code = textIn(message.code);
      const isUndone = request.isAbandoned && request.kind === "subscribe"; // by not being carried out
      if (RETRIED.has(code) && !isUndone) this.requests.sendAgain(request);
      else this.#refused(request, code, textIn(message.message));
      if (RETRIED.has(code)) this.#hold(now);
      return;
    }
    this.#retries = 0;
    if (message.durable === false) {
      this.requests.accepted(request); // another ack follows once the message is stored
      return;
    }
    this.#finish(request);
    let answer = message;
    if (request.kind === "subscribe") {
      if (request.source !== null) this.#channelTokens.expiresIn(now, request.channel, message.token_expires_in);
      answer = this.#subscribed.get(request.channel) ?? message;
      this.#subscribed.delete(request.channel);
    }
    if (request.kind === "refresh") this.#ownToken.expiresIn(now, message.token_expires_in);
    if (request.isMembership) {
      this.channels.change(request.channel, (membership) => membership.done(request.id));
      this.#repair(request.channel);
    }
    if (!request.internal) this.#emit(resolve(request.id, answer));
  }

  /** Send nothing for a while, after the hub could not carry out a request. */
  #hold(now) {
    if (this.#heldUntil === null || this.#heldUntil <= now) {
      const longest = Math.min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** Math.min(this.#retries, 10));
      this.#heldUntil = now + longest * (0.5 + 0.5 * this.#random());
      this.#sendAt = null;
      this.#retries += 1;
    }
  }

  /** Reject a request that the hub has not carried out, and never will. */
  #refused(request, code, text) {
    this.#retries = 0;
    this.#finish(request);
    if (request.isMembership) {
      const isLost = this.channels.change(request.channel, (membership) => {
        const wasSaid = request.kind === "subscribe" && this.#subscribed.delete(request.channel);
        if (wasSaid) membership.putIn(); // what the hub said was no answer to this request
        return membership.refused(request.id);
      });
      if (isLost) this.#emit(left(request.channel, code, text));
      this.#repair(request.channel);
    }
    if (!request.internal) this.#emit(reject(request.id, code, text));
  }

  /** Reject a call whose answer nobody waits for any more. */
  #giveUp(request, code, text) {
    const isOnItsWay = request.isMembership && request.progress === Progress.SENT;
    if (isOnItsWay) this.requests.abandon(request); // its answer still says where the client is
    else this.#finish(request);
    this.#giveUpMembership(request, isOnItsWay);
    this.#repair(request.channel);
    this.#emit(reject(request.id, code, text));
  }

  #giveUpMembership({ id, channel, isMembership, wasSent }, isOnItsWay) {
    if (isMembership) this.channels.change(channel, (membership) => membership.givenUp(id, { wasSent, isOnItsWay }));
  }

  /** Send what brings the client where it belongs. Without a connection, the next one does it. */
  #repair(channel) {
    const membership = this.channels.memberships.get(channel);
    const kind = this.#attempt === null ? null : (membership?.repair() ?? null);
    if (kind === null) return;
    const id = this.#nextId;
    membership.asked(id, kind === "subscribe");
    if (kind === "subscribe") {
      this.#join(channel, null, { internal: true });
      return;
    }
    const [text, size] = encoded({ type: kind, channel, id });
    this.#add(new Request(id, kind, text, size, { channel, internal: true }));
  }

  /** Subscribe to a channel again, with another token. If that fails, the hub takes the client out of it later. */
  #renew(channel) {
    const membership = this.channels.memberships.get(channel);
    if (!membership?.inside || !membership.settled || membership.pending.size) return;
    membership.asked(this.#nextId, true);
    this.#join(channel, null, { internal: true });
  }

  /** Remove a request. */
  #finish(request) {
    this.requests.remove(request);
    this.#channelTokens.take(request.id);
    if (request.positions.size) this.#forgetRead(request);
  }

  /** Forget the positions of a ping that was answered. Those that changed meanwhile are told again. */
  #forgetRead(request) {
    this.#tellingRead = false;
    for (const [channel, at] of request.positions) {
      const now = this.#read.get(channel);
      if (now?.offset === at.offset && now.epoch === at.epoch) this.#read.delete(channel);
    }
  }

  // What the client says

  #add(request) {
    this.requests.add(request);
    this.#nextId += 1;
  }

  /** Queue a subscription with a token, or with that of an earlier call for the channel. Throws WsdError. */
  #join(channel, token, options) {
    const given = token ?? this.channels.memberships.get(channel)?.token ?? null;
    const text = typeof given === "string" ? given : "";
    const source = typeof given === "string" ? null : given;
    const [, size] = encoded({ channel, token: text });
    const request = new Request(this.#nextId, "subscribe", "", SUBSCRIBE_BYTES + size, {
      channel,
      token: text,
      source,
      progress: source === null ? Progress.WAITING : Progress.PREPARING,
      ...options,
    });
    this.#add(request);
    if (source !== null) this.#channelTokens.add(request);
    return request;
  }

  #tellRead(now) {
    this.#readAt = null;
    if (!this.#read.size) return;
    const positions = new Map(this.#read);
    this.#tellingRead = true;
    const [text, size] = encoded({ type: "ping", positions: Object.fromEntries(positions), id: this.#nextId });
    this.#add(new Request(this.#nextId, "ping", text, size, { internal: true, positions }));
    this.#readAt = now + READ_SECONDS;
  }

  #sendWaiting(now) {
    this.#sendAt = null;
    const pacing = this.#pacing;
    let request;
    const cost = ({ size, publishedIn }) => pacing.cost(size, publishedIn);
    while ((request = this.requests.next(pacing.window, pacing.windowBytes, cost)) !== null) {
      let { size } = request;
      if (request.kind === "subscribe") [request.text, size] = encoded(this.#subscription(request));
      try {
        this.#checkSize(size);
      } catch (error) {
        this.#refused(request, error.code, error.message);
        continue;
      }
      const wait = pacing.wait(now, request.size, request.publishedIn);
      if (wait > 0) {
        this.#sendAt = now + wait;
        return;
      }
      this.requests.sent(request, now, cost(request));
      pacing.sent(now, request.size, request.publishedIn);
      this.#emit(send(this.#attempt, request.text));
    }
  }

  /** Return a subscription as it is to be sent now: after the position that the client knows, if it knows one. */
  #subscription({ channel, id, last, token }) {
    const fields = { type: "subscribe", channel, id };
    const since = this.channels.positions.get(channel);
    if (since !== undefined) fields.since = since;
    else if (last) fields.last = last;
    if (token) fields.token = token;
    return fields;
  }

  #checkSize(size) {
    const limit = this.#maxMessageBytes;
    if (limit !== null && size > limit) {
      throw new WsdError(TOO_BIG, `the message has ${size} bytes, the hub takes ${limit}`);
    }
  }
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checkChannel(channel) {
  if (!isText(channel)) throw new WsdError(INVALID_CHANNEL, "the name of a channel is a text");
}

function checkJoinable(channel) {
  checkChannel(channel);
  if (OWN_CHANNELS.has(channel)) {
    throw new WsdError(INVALID_CHANNEL, `every client is in ${channel}, and can neither join nor leave it`);
  }
}

function textIn(value) {
  return typeof value === "string" ? value : "";
}

function deadlineOf(now, timeout) {
  return timeout === null ? null : now + timeout;
}
