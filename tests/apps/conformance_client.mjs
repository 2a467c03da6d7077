// A client that does what a test commands, in Node and in a page: tests/support/client_programs.py has the commands.
// In Node, commands are lines of stdin and events are lines of stdout. In a page, `globalThis.command(object)` takes a
// command, and `globalThis.takeEvents()` returns the events since the last call.
import { WsdClient } from "./wsd-client.mjs";

const inNode = typeof process !== "undefined" && process.versions?.node !== undefined;
const fs = inNode ? await import("node:fs") : null;
const events = [];
const milliseconds = (seconds) => (typeof seconds === "number" ? seconds * 1000 : seconds);
const aborts = new Map(); // by call: how to cancel it
let client = null;
let heard = 0; // messages
let careless = ""; // how callbacks fail: "throws" or "rejects"

function report(event, fields = {}) {
  const line = { event, at: Date.now() / 1000, ...fields };
  if (inNode) fs.writeSync(1, JSON.stringify(line) + "\n");
  else events.push(line);
}

// A function where the test lists tokens: one after the other, the last one again and again. null stands for a failure,
// and "never" for a promise that is never settled.
function tokenOf({ token, tokens }) {
  if (!tokens) return token;
  const left = [...tokens];
  return async () => {
    const next = left.length > 1 ? left.shift() : left[0];
    report("token_asked", { token: next });
    if (next === null) throw new Error("no token today");
    if (next === "never") await new Promise(() => {});
    return next;
  };
}

function connect({ url, options = {} }) {
  const {
    token, tokens, request_timeout, ping_interval, max_waiting, max_waiting_bytes, query,
    echo = {}, quiet = false, careless: how = "", ...names
  } = options;
  const given = {
    ...names, ...query, token: tokenOf(options),
    requestTimeout: milliseconds(request_timeout), pingInterval: milliseconds(ping_interval),
    maxWaiting: max_waiting, maxWaitingBytes: max_waiting_bytes,
  };
  client = new WsdClient(url, Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)));
  careless = how;
  client.onstate = told((name, state) => report("state", {
    name, reason: state.reason, code: state.code, status: state.status, failures: state.failures,
    retry_in: state.retryIn === null || state.retryIn === undefined ? null : state.retryIn / 1000,
  }));
  client.onmessage = told((message) => {
    heard += 1;
    if (!quiet) report("message", { message });
    const { channel, data } = message;
    if (Object.hasOwn(echo, channel)) settle({ do: "publish", channel: echo[channel], data, call: `echo of ${data}` });
  });
  client.ongap = told(({ channel, reason }) => report("gap", { channel, reason }));
  client.onpresence = told((change) => report("presence", { change }));
  client.onleft = told(({ channel, code }) => report("left", { channel, code }));
  client.onerror = told((error) => report("error", { text: String(error?.stack ?? error) }));
}

// A callback that fails after it has reported, where the test wants it.
function told(callback) {
  return (...words) => {
    callback(...words);
    if (careless === "throws") throw new Error("careless");
    return careless === "rejects" ? Promise.reject(new Error("careless")) : undefined;
  };
}

function signalOf({ call: number, cancellable }) {
  if (!cancellable) return {};
  const controller = new AbortController();
  aborts.set(number, () => controller.abort());
  return { signal: controller.signal };
}

function publishChanged({ channel }) {
  const data = { n: 1, list: [1] };
  const answer = client.publish(channel, data);
  data.n = 2;
  data.list.push(2);
  return answer;
}

async function publishUnencodable({ channel }) {
  const circle = {};
  circle.circle = circle;
  const failing = { toJSON() { throw new Error("no JSON"); } };
  const calls = [undefined, () => 1, Symbol("s"), 10n, circle, failing].map((data) => client.publish(channel, data));
  return { codes: await Promise.all(calls.map((one) => one.then(() => "none", ({ code }) => code))) };
}

function defined(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function picked(answer, names) {
  return Object.fromEntries(names.filter((name) => answer?.[name] !== undefined).map((name) => [name, answer[name]]));
}

const POSITION = ["offset", "epoch"];

function call(command) {
  const { channel, data, user_id: userId, last, since, limit, reverse, position } = command;
  const timeout = "timeout" in command ? { timeout: milliseconds(command.timeout) } : {};
  const options = { ...timeout, ...signalOf(command) };
  switch (command.do) {
    case "subscribe":
      return client.subscribe(channel, command.handled ? (message) => report("handled", { message }) : null, { ...options, ...defined({ last, token: tokenOf(command) }) })
        .then((answer) => picked(answer, [...POSITION, "recovered", "count", "reason"]));
    case "unsubscribe": return client.unsubscribe(channel, null, options).then(() => ({}));
    case "publish": return client.publish(channel, data, options).then((answer) => picked(answer, POSITION));
    case "broadcast": return client.broadcast(data, options).then((answer) => picked(answer, POSITION));
    case "direct": return client.direct(userId, data, options).then((answer) => picked(answer, POSITION));
    case "presence":
      return client.presence(channel, options).then((answer) => picked(answer, ["count", "members"]));
    case "history": {
      const given = Object.entries({ since, limit, reverse }).filter(([, value]) => value !== undefined);
      return client.history(channel, { ...Object.fromEntries(given), ...options })
        .then((answer) => picked(answer, [...POSITION, "messages"]));
    }
    case "delivered":
      return client.delivered(channel, userId, position, options)
        .then((answer) => picked(answer, ["delivered", "offset"]));
    case "mark_read": client.markRead(channel, position); return {};
    case "connect": connect(command); return {};
    case "reconnect": client.reconnect(); return {};
    case "close": client.close(); return {};
    case "waiting": return picked(client.waiting, ["requests", "bytes"]);
    case "discard_waiting": return { count: client.discardWaiting() };
    case "memory": return memory();
    case "heard": return { count: heard };
    case "cancel": aborts.get(command.target)(); return {};
    case "publish_changed": return publishChanged(command).then(() => ({}));
    case "publish_unencodable": return publishUnencodable(command);
    default: throw new Error(`no such command: ${command.do}`);
  }
}

async function memory() {
  globalThis.gc?.();
  if (inNode) return { bytes: process.memoryUsage().heapUsed, resident: process.memoryUsage.rss() };
  return { bytes: performance.memory?.usedJSHeapSize ?? 0 };
}

async function settle(command) {
  const number = command.call;
  try {
    report("settled", { call: number, ok: await call(command) });
  } catch (error) {
    report("settled", { call: number, code: error?.code ?? error?.name ?? "", text: String(error?.message ?? error) });
  }
}

function command(given) {
  if (given.do === "publish_many") {
    const { channel, call: number } = given;
    given.data.forEach((data, index) => settle({ ...given, do: "publish", channel, data, call: `${number}.${index}` }));
  } else settle(given);
}

if (inNode) {
  process.on("unhandledRejection", (error) => report("uncaught", { text: String(error?.stack ?? error) }));
  process.on("uncaughtException", (error) => report("uncaught", { text: String(error?.stack ?? error) }));
  const { createInterface } = await import("node:readline");
  createInterface({ input: process.stdin }).on("line", (line) => command(JSON.parse(line)))
    .on("close", () => process.exit(0));
} else {
  addEventListener("unhandledrejection", ({ reason }) => report("uncaught", { text: String(reason?.stack ?? reason) }));
  addEventListener("error", ({ message }) => report("uncaught", { text: message }));
  globalThis.command = command;
  globalThis.takeEvents = () => events.splice(0);
}
report("ready");
