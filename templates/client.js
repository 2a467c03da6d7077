// A client of the hub that loses nothing: it comes back by itself, with a pause that grows and is random, goes on with
// its session, and drops what it has seen. For browsers and for Node 22, without dependencies.
//
//   const client = new WsdClient("ws://127.0.0.1:8000/ws", { user_id: "ann" });
//   client.onmessage = (message) => console.log(message.channel, message.data);
//   client.subscribe("room:1");
//   await client.publish("room:1", { text: "hi" });   // resolves once the message is stored
//
// Where the server wants JSON Web Tokens: new WsdClient(url, { token: async () => (await fetch("/token")).text() }).
// The function is called before each connection, so that a token that has expired is replaced. With a text instead, the
// client gives up when it has expired.

const FIRST_PAUSE = 200, LONGEST_PAUSE = 20_000;      // milliseconds
const KEPT_UIDS = 5000;
const KEYED_UID_LENGTH = 32;                          // of what stands before the minute in the uid of such a message
const EXPIRED = 4401;                                 // close code: come back with a new token
const RETRIED = new Set(["rate_limited", "byte_rate_limited", "not_stored", "unavailable"]);

export class WsdClient {
  onmessage = (message) => {};                        // { channel, data, from, ... }
  ongap = (gap) => {};                                // { channel, reason }: something was missed
  onstate = (state, detail) => {};                    // "connecting", "open" (the welcome), "closed" (why, and for how long)

  #url; #query; #token; #socket = null; #resumeToken = ""; #attempt = 0; #timer; #retry = null; #stopped = false;
  #positions = new Map();                             // by channel: { offset, epoch }
  #channels = new Set();                              // subscribed, by the application's wish
  #uids = new Set();                                  // of the latest messages, each with its channel
  #waiting = new Map();                               // by id: { request, resolve, reject }
  #nextId = 1;
  #run = Math.random().toString(36).slice(2);         // tells this client's idempotency keys from an earlier one's

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

  // A new connection, which may reach another worker.
  reconnect() { this.#attempt = 0; this.#socket?.close(4000); }

  // For good: the session ends.
  close() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
    for (const { reject } of this.#waiting.values()) reject(new Error("closed"));
    this.#waiting.clear();
  }

  // A message is sent again until it is stored; the key makes it count once.
  #send(request) { return this.#ask({ ...request, idempotency_key: `${this.#run}-${this.#nextId}` }); }

  #ask(request) {
    const id = this.#nextId++;
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { request: { ...request, id }, resolve, reject });
    });
    answer.catch(() => {});                           // whoever does not wait for it is not told
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
      .catch((error) => {                             // asked for again after a pause
        if (!this.#stopped) this.#closed({ code: 1006, reason: `no token: ${error?.message ?? error}` });
      });
  }

  #open(token) {
    const url = new URL(this.#url, globalThis.location?.href);
    for (const [name, value] of Object.entries(this.#query)) url.searchParams.set(name, value);
    const resumed = this.#resumeToken;
    if (resumed) url.searchParams.set("resume", "1"); // the tokens themselves are not in the URL, which is logged
    const socket = this.#socket = new WebSocket(url, token ? ["wsd.bearer", token] : []);
    socket.onopen = () => {
      // What came after an unsubscribe has a position too. To name it would be to subscribe again.
      const here = ([channel]) => this.#channels.has(channel) || channel === "broadcast" || channel === "direct";
      const since = Object.fromEntries([...this.#positions].filter(here));
      if (resumed) socket.send(JSON.stringify({ type: "resume", token: resumed, since }));
    };
    socket.onmessage = (event) => { if (socket === this.#socket) this.#hear(JSON.parse(event.data)); };
    socket.onclose = (event) => { if (socket === this.#socket) this.#closed(event); };
    let opened = false;                               // Node 20 and 22 tell no close of what could not be opened
    socket.addEventListener("open", () => { opened = true; });
    socket.onerror = () => setTimeout(() => {
      if (socket === this.#socket && !opened) this.#closed({ code: 1006, reason: "" });
    });
  }

  #closed({ code, reason }) {
    this.#socket = null;
    const over = code === EXPIRED && typeof this.#token !== "function";
    if (this.#stopped || over || code === 1008 || (code >= 4500 && code < 5000)) {
      this.onstate("closed", { code, reason, again: null });
      this.close();
      return;
    }
    if (code === 1009) this.#rejectLargest();         // to send it again would not help
    // Full jitter: clients of one worker must not all come back in the same moment.
    const pause = Math.random() * Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempt++);
    this.onstate("closed", { code, reason, again: pause });
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #rejectLargest() {
    const size = ([, { request }]) => JSON.stringify(request).length;
    const [largest] = [...this.#waiting].sort((a, b) => size(b) - size(a));
    if (!largest) return;
    this.#waiting.delete(largest[0]);
    largest[1].reject(new Error("message too big"));
  }

  #hear(message) {
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
      if (Object.hasOwn(message.channels, channel)) continue; // in it already
      this.#socket.send(JSON.stringify({ type: "subscribe", channel, since: this.#positions.get(channel) }));
    }
    this.onstate("open", message);
    for (const id of this.#waiting.keys()) this.#transmit(id);
  }

  // Where nothing is lost, what was missed follows from where we are.
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
    if (uid) {                                        // it may have come before it was stored
      if (triesOf(uid).some((one) => this.#uids.has(JSON.stringify([channel, one])))) return;
      this.#uids.add(JSON.stringify([channel, uid]));
      if (this.#uids.size > KEPT_UIDS) this.#uids.delete(this.#uids.values().next().value);
    }
    this.onmessage(message);
  }

  #answered(message) {
    if (message.type === "error" && RETRIED.has(message.code)) {
      // Whatever waits is sent again: a message counts once.
      this.#retry ??= setTimeout(() => {
        this.#retry = null;
        for (const id of this.#waiting.keys()) this.#transmit(id);
      }, 1000);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting || message.durable === false) return; // another ack comes once it is stored
    this.#waiting.delete(message.id);
    if (message.type === "error") waiting.reject(new Error(`${message.code}: ${message.message}`));
    else waiting.resolve(message);
  }
}

// The uids of one message: one with an idempotency key has another in each minute in which it was sent.
function triesOf(uid) {
  const [name, minute] = uid.split("-");
  if (name.length !== KEYED_UID_LENGTH) return [uid];
  const at = parseInt(minute, 16);
  return [uid, `${name}-${(at - 1).toString(16)}`, `${name}-${(at + 1).toString(16)}`];
}
