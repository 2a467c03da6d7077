// A client of the hub that loses no messages. It reconnects by itself after a random and growing pause, resumes its
// session, receives what it missed and ignores duplicates. For browsers and Node 22, without dependencies.
//
//   const client = new WsdClient("ws://127.0.0.1:8000/ws", { user_id: "ann" });
//   client.onmessage = (message) => console.log(message.channel, message.data);
//   client.subscribe("room:1");
//   await client.publish("room:1", { text: "hi" });   // resolves once the message is stored
//
// If the server requires JSON Web Tokens: new WsdClient(url, { token: async () => (await fetch("/token")).text() }).
// The function is called before each connection, so that an expired token is replaced. `token` may also be a string;
// then the client gives up when the token has expired.

const FIRST_PAUSE = 200, LONGEST_PAUSE = 20_000;      // milliseconds
const KEPT_UIDS = 5000;                               // uids that are remembered to recognize duplicates
const KEYED_UID_LENGTH = 32;                          // length of a uid before its "-", if the message had a key
const EXPIRED = 4401;                                 // close code: the token has expired
const RETRIED = new Set(["rate_limited", "byte_rate_limited", "not_stored", "unavailable"]);

export class WsdClient {
  onmessage = (message) => {};                        // { channel, data, from, ... }
  ongap = (gap) => {};                                // { channel, reason }: messages were lost
  // "connecting"; "open" with the welcome; "closed" with { code, reason, again }, where `again` is the number of
  // milliseconds until the next attempt, or null if there is none.
  onstate = (state, detail) => {};

  #url; #query; #token; #socket = null; #resumeToken = ""; #attempt = 0; #timer; #retry = null; #stopped = false;
  #positions = new Map();                             // by channel: { offset, epoch } of the last message
  #channels = new Set();                              // channels that the application has subscribed to
  #uids = new Set();                                  // channel and uid of the latest messages
  #waiting = new Map();                               // requests without an answer, by id: { request, resolve, reject }
  #nextId = 1;
  #run = Math.random().toString(36).slice(2);         // makes idempotency keys unique among all clients

  constructor(url, { user_id, username = user_id, token, ...query } = {}) {
    this.#url = url;
    this.#token = token;
    this.#query = { ...query, ...(user_id ? { user_id, username } : {}) };
    this.#connect();
  }

  subscribe(channel) { this.#channels.add(channel); return this.#ask({ type: "subscribe", channel }); }
  unsubscribe(channel) {
    this.#channels.delete(channel);
    this.#positions.delete(channel);
    return this.#ask({ type: "unsubscribe", channel });
  }
  publish(channel, data) { return this.#send({ type: "publish", channel, data }); }
  broadcast(data) { return this.#send({ type: "broadcast", data }); }
  direct(user_id, data) { return this.#send({ type: "direct", user_id, data }); }
  presence(channel) { return this.#ask({ type: "presence", channel }); }
  history(channel, options = {}) { return this.#ask({ type: "history", channel, ...options }); }

  // Opens a new connection, which may reach another worker.
  reconnect() { this.#attempt = 0; this.#socket?.close(4000); }

  // Closes the connection and ends the session.
  close() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    for (const { reject } of this.#waiting.values()) reject(new Error("closed"));
    this.#waiting.clear();
  }

  // Sends a message again and again until it is stored. Because of the key it is published only once.
  #send(request) { return this.#ask({ ...request, idempotency_key: `${this.#run}-${this.#nextId}` }); }

  #ask(request) {
    const id = this.#nextId++;
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { request: { ...request, id }, resolve, reject });
    });
    answer.catch(() => {});                           // no "unhandled rejection" if the caller ignores the promise
    this.#transmit(id);
    return answer;
  }

  #transmit(id) {
    const waiting = this.#waiting.get(id);
    if (waiting && this.#socket?.welcomed) this.#socket.send(JSON.stringify(waiting.request));
  }

  #connect() {
    this.onstate("connecting");
    if (typeof this.#token !== "function") return this.#open(this.#token);
    Promise.resolve().then(this.#token)
      .then((token) => { if (!this.#stopped) this.#open(token); })
      .catch((error) => {                             // tried again after a pause
        if (!this.#stopped) this.#closed({ code: 1006, reason: `no token: ${error?.message ?? error}` });
      });
  }

  #open(token) {
    const url = new URL(this.#url, globalThis.location?.href);
    for (const [name, value] of Object.entries(this.#query)) url.searchParams.set(name, value);
    const resumed = this.#resumeToken;
    if (resumed) url.searchParams.set("resume", "1"); // URLs are logged, so they never contain the tokens
    const socket = this.#socket = new WebSocket(url, token ? ["wsd.bearer", token] : []);
    socket.onopen = () => {
      // Only subscribed channels: naming a position subscribes to its channel, and a message that arrived after an
      // unsubscribe has left a position.
      const here = ([channel]) => this.#channels.has(channel) || channel === "broadcast" || channel === "direct";
      const since = Object.fromEntries([...this.#positions].filter(here));
      if (resumed) socket.send(JSON.stringify({ type: "resume", token: resumed, since }));
    };
    socket.onmessage = (event) => { if (socket === this.#socket) this.#receive(JSON.parse(event.data)); };
    socket.onclose = (event) => { if (socket === this.#socket) this.#closed(event); };
    let opened = false;                               // Node 20 and 22 have no close event if the open fails
    socket.addEventListener("open", () => { opened = true; });
    socket.onerror = () => setTimeout(() => {
      if (socket === this.#socket && !opened) this.#closed({ code: 1006, reason: "" });
    });
  }

  #closed({ code, reason }) {
    this.#socket = null;
    const expired = code === EXPIRED && typeof this.#token !== "function";
    if (this.#stopped || expired || code === 1008 || (code >= 4500 && code < 5000)) {
      this.onstate("closed", { code, reason, again: null });
      this.close();
      return;
    }
    if (code === 1009) this.#rejectLargest();         // it would be refused again
    // Full jitter: the clients of a worker that has ended must not all reconnect at the same moment.
    const pause = Math.random() * Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempt++);
    this.onstate("closed", { code, reason, again: pause });
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  // Gives up the largest request: the server has closed the connection because of its size.
  #rejectLargest() {
    const size = ([, { request }]) => JSON.stringify(request).length;
    const [largest] = [...this.#waiting].sort((a, b) => size(b) - size(a));
    if (!largest) return;
    this.#waiting.delete(largest[0]);
    largest[1].reject(new Error("message too big"));
  }

  #receive(message) {
    switch (message.type) {
      case "welcome": return this.#welcomed(message);
      case "subscribed": return this.#joined(message.channel, message);
      case "gap":
        this.#positions.set(message.channel, { offset: message.offset, epoch: message.epoch });
        return this.ongap(message);
      case "position":
        this.#positions.set(message.channel, { offset: message.offset, epoch: message.epoch });
        return;
      case "message": return this.#deliver(message);
      default: return this.#answered(message);
    }
  }

  #welcomed(message) {
    this.#attempt = 0;
    this.#resumeToken = message.resume_token;
    this.#socket.welcomed = true;
    for (const [channel, state] of Object.entries(message.channels)) this.#joined(channel, state);
    for (const channel of this.#channels) {
      if (Object.hasOwn(message.channels, channel)) continue; // joined by the resume
      this.#socket.send(JSON.stringify({ type: "subscribe", channel, since: this.#positions.get(channel) }));
    }
    this.onstate("open", message);
    for (const id of this.#waiting.keys()) this.#transmit(id);
  }

  // Notes that a channel was joined. After a successful recovery the missed messages follow, so the position stays.
  #joined(channel, { offset, epoch, recovered, reason }) {
    const known = this.#positions.has(channel);
    if (recovered !== true && offset !== undefined) this.#positions.set(channel, { offset, epoch });
    if (known && recovered === false) this.ongap({ type: "gap", channel, reason, offset, epoch });
  }

  #deliver(message) {
    const { channel, uid, offset, epoch } = message;
    if (offset !== undefined) {
      const at = this.#positions.get(channel);
      if (at?.epoch === epoch && offset <= at.offset) return;
      this.#positions.set(channel, { offset, epoch });
    }
    if (uid) {                                        // a message may arrive twice: before and after it was stored
      if (uidsOf(uid).some((one) => this.#uids.has(JSON.stringify([channel, one])))) return;
      this.#uids.add(JSON.stringify([channel, uid]));
      if (this.#uids.size > KEPT_UIDS) this.#uids.delete(this.#uids.values().next().value);
    }
    this.onmessage(message);
  }

  #answered(message) {
    if (message.type === "error" && RETRIED.has(message.code)) {
      // Sends all unanswered requests again. Because of their keys, messages are published only once.
      this.#retry ??= setTimeout(() => {
        this.#retry = null;
        for (const id of this.#waiting.keys()) this.#transmit(id);
      }, 1000);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting || message.durable === false) return; // another ack follows once the message is stored
    this.#waiting.delete(message.id);
    if (message.type === "error") waiting.reject(new Error(`${message.code}: ${message.message}`));
    else waiting.resolve(message);
  }
}

// The uids that a message may have. With an idempotency key, the uid contains the minute in which the message was sent,
// and a retry in the next minute gets another uid.
function uidsOf(uid) {
  const [name, minute] = uid.split("-");
  if (name.length !== KEYED_UID_LENGTH) return [uid];
  const at = parseInt(minute, 16);
  return [uid, `${name}-${(at - 1).toString(16)}`, `${name}-${(at + 1).toString(16)}`];
}
