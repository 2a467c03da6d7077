// Checks what the JavaScript client promises to an application: node client_checks.mjs CHECK URL
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";

import { WsdClient, WsdError } from "./client.mjs";

const [check, url] = process.argv.slice(2);
const nowhere = "ws://127.0.0.1:9/ws"; // the port `discard`, on which nothing listens

const warnings = [];
process.on("warning", (warning) => warnings.push(warning.name));

function newClient(options = {}, to = url) {
  return new WsdClient(to, { user_id: "ann", ...options });
}

function newState(client, wanted) {
  return new Promise((resolve) => {
    client.onstate = (name, state) => { if (wanted(state)) resolve(state); };
  });
}

/** Wait until a condition holds. The test has a time limit. */
async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function codeOf(call) {
  return call.then(() => "none", (error) => {
    assert.ok(error instanceof WsdError && error instanceof Error, String(error));
    return error.code;
  });
}

const checks = {
  async promises_that_are_ignored_are_no_unhandled_rejections() {
    const client = newClient({ requestTimeout: 1 });
    client.publish("room", () => 1);
    client.publish(5, 1);
    client.presence("room", { timeout: -1 });
    client.presence("room", { signal: 5 });
    client.subscribe("room", { last: 5 });
    client.subscribe("no name", () => {});
    client.presence("room", { signal: AbortSignal.abort() });
    client.history("room");
    await newState(client, ({ name }) => name === "open");
    client.publish("room", 1, { timeout: null });
    client.close();
    client.publish("room", 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
  },

  async callbacks_that_fail_change_nothing() {
    const client = newClient();
    const told = [], heard = [], logged = [];
    client.onstate = () => { throw "onstate"; };
    client.onerror = (error) => told.push(error);
    client.onmessage = async ({ data }) => { heard.push(data); throw "onmessage"; };
    await client.subscribe("room", () => { throw "handler"; });
    await client.subscribe("room", { onmessage: () => Promise.reject("object") });
    await client.publish("room", 1);
    await until(() => told.length === 5);
    assert.deepEqual(told, ["onstate", "onstate", "handler", "object", "onmessage"]);
    console.error = (...words) => logged.push(words.at(-1));
    client.onerror = () => { throw "onerror"; };
    await client.publish("room", 2);
    await until(() => logged.length === 6);
    client.onerror = async () => { throw "async"; };
    await client.publish("room", 3);
    await until(() => logged.length === 9);
    client.onerror = null;
    await client.publish("room", 4);
    await until(() => logged.length === 12);
    assert.deepEqual(heard, [1, 2, 3, 4]);
    assert.deepEqual(logged.slice(6), ["async", "async", "async", "handler", "object", "onmessage"]);
    client.onstate = null;
    client.close();
  },

  async callbacks_may_call_the_client() {
    const client = newClient();
    const heard = [];
    client.onstate = (name, state) => heard.push(name === state.name ? name : "another state");
    client.onmessage = ({ data }) => {
      heard.push(data);
      if (data < 5) client.publish("room", data + 1);
      else client.close();
      if (data === 3) client.reconnect();
    };
    client.subscribe("room");
    client.publish("room", 1);
    await until(() => client.state.name === "closed");
    assert.deepEqual(heard, ["connecting", "open", 1, 2, 3, "connecting", "open", 4, 5, "closed"]);
    assert.equal(await codeOf(client.publish("room", 6)), "closed");
    assert.throws(() => client.reconnect(), { code: "closed" });
  },

  async calls_can_be_cancelled() {
    const client = newClient();
    const controller = new AbortController();
    const { signal } = controller;
    const waiting = [client.publish("room", "cancelled", { signal }), client.subscribe("cancelled", () => {}, { signal })];
    assert.equal(client.waiting.requests, 2);
    controller.abort("enough");
    for (const call of waiting) {
      await assert.rejects(call, { name: "WsdError", code: "cancelled", cause: "enough" });
    }
    assert.equal(client.waiting.requests, 0);
    assert.equal(await codeOf(client.presence("room", { signal })), "cancelled");
    const other = new AbortController();
    for (let number = 0; number < 20; number++) await client.presence("room", { signal: other.signal });
    assert.equal(getEventListeners(other.signal, "abort").length, 0);
    other.abort();
    assert.deepEqual((await client.history("room", { since: 0 })).messages, []);
    assert.equal(client.discardWaiting(), 0);
    const never = newClient({}, nowhere);
    const calls = [never.publish("room", 1), never.presence("room")];
    assert.equal(never.discardWaiting(), 2);
    assert.deepEqual(await Promise.all(calls.map(codeOf)), ["cancelled", "cancelled"]);
    assert.equal(await codeOf(never.presence("room", { timeout: 20 })), "timeout");
    never.close();
    client.close();
  },

  async channels_have_handlers() {
    const client = newClient();
    const heard = [];
    const hear = (name) => ({ data }) => heard.push(`${name}${data}`);
    const both = hear("same ");
    client.onmessage = hear("all ");
    await client.subscribe("one", hear("function "));
    await client.subscribe("one", { onmessage: hear("object "), ongap() {} });
    await client.subscribe("one", both);
    await client.subscribe("one", both);
    await client.subscribe("two");
    await client.publish("one", 1);
    await client.publish("two", 2);
    await until(() => heard.length === 5);
    assert.deepEqual(heard, ["function 1", "object 1", "same 1", "all 1", "all 2"]);
    await client.unsubscribe("one");
    await client.publish("one", 3);
    await client.subscribe("one");
    await client.publish("one", 4);
    await until(() => heard.length === 6);
    assert.equal(heard[5], "all 4");
    await client.unsubscribe("one");
    await client.subscribe("one", hear("last "), { last: 2 });
    await until(() => heard.length === 10);
    assert.deepEqual(heard.slice(6), ["last 3", "all 3", "last 4", "all 4"]);
    client.close();
  },

  async handlers_can_be_removed_one_by_one() {
    const client = newClient();
    const heard = [];
    const first = ({ data }) => heard.push(`first ${data}`);
    const second = { onmessage: ({ data }) => heard.push(`second ${data}`) };
    await client.subscribe("one", first);
    await client.subscribe("one", second);
    assert.equal(await client.unsubscribe("one", first), null);
    assert.equal(await client.unsubscribe("one", first), null); // again, which changes nothing
    await client.publish("one", 1);
    await until(() => heard.length === 1);
    assert.equal((await client.unsubscribe("one", second)).type, "ack");
    await client.publish("one", 2);
    await client.subscribe("one", first);
    await client.publish("one", 3);
    await until(() => heard.length === 2);
    assert.deepEqual(heard, ["second 1", "first 3"]);
    client.close();
  },

  async tokens_are_asked_for_before_each_connection() {
    const given = [() => { throw new Error("away"); }, async () => { throw null; }, () => 5, () => Symbol("s"), () => "t"];
    const reasons = [];
    const client = new WsdClient(url, { token: () => given.shift()() });
    client.onstate = (name, { reason, failures }) => { if (name === "waiting") reasons.push(`${failures} ${reason}`); };
    await until(() => client.state.name === "open");
    assert.deepEqual(reasons.map((reason) => reason.slice(0, 12)), [1, 2, 3, 4].map((number) => `${number} no token: `));
    assert.match(reasons[0], /away/);
    client.close();
    const secret = new WsdClient(url, { token: "a secret, with a comma" });
    const { reason, code } = await newState(secret, ({ name }) => name === "closed");
    assert.match(reason, /^no token: .* cannot be sent/);
    assert.ok(!reason.includes("secret"));
    assert.equal(code, 1006);
    assert.equal(await codeOf(secret.publish("room", 1)), "closed");
  },

  async wrong_arguments_are_errors() {
    const wrong = [["ftp://x"], ["/ws"], ["no url"], [5], ["ws://"], [url, { onmessage() {} }], [url, { maxWaiting: 0 }]];
    wrong.push([url, { requestTimeout: "5" }], [url, { pingInterval: NaN }], [url, { WebSocket: {} }], [undefined]);
    for (const each of wrong) assert.throws(() => new WsdClient(...each), TypeError, JSON.stringify(each));
    const client = newClient({ room: 5, nothing: null });
    const circle = {};
    circle.circle = circle;
    for (const data of [undefined, () => 1, Symbol("s"), 1n, NaN, -Infinity, [undefined], { a: () => 1 }, circle, "\ud83d"]) {
      assert.equal(await codeOf(client.broadcast(data)), "not_encodable");
      assert.equal(await codeOf(client.publish("room", { data })), data === undefined ? "none" : "not_encodable");
    }
    for (const channel of [undefined, null, 5, {}, ["room"], "\ud83d"]) {
      assert.equal(await codeOf(client.subscribe(channel)), "invalid_channel");
      assert.equal(await codeOf(client.presence(channel)), "invalid_channel");
    }
    await assert.rejects(client.subscribe("room", null, { last: -1 }), TypeError);
    await assert.rejects(client.subscribe("room", 5), TypeError);
    assert.throws(() => client.markRead("room", { offset: "5" }), { code: "not_encodable" });
    assert.equal(await codeOf(client.publish("room", "x".repeat(70_000))), "too_big");
    assert.equal(await codeOf(client.publish("room", "é".repeat(33_000))), "too_big", "bytes are counted, not characters");
    assert.equal(await codeOf(client.publish("room", "é".repeat(32_000))), "none");
    assert.equal(client.waiting.requests, 0);
    client.close();
  },

  async a_client_that_reaches_nobody_tries_again_and_can_be_closed() {
    const client = newClient({}, nowhere);
    const states = [];
    client.onstate = (name, { failures }) => states.push(`${name} ${failures}`);
    await until(() => states.length === 6);
    const tries = ["connecting 0", "waiting 1", "connecting 1", "waiting 2", "connecting 2", "waiting 3"];
    assert.deepEqual(states, tries);
    assert.equal(client.state.code, 1006);
    assert.equal(client.state.reason, "the connection could not be opened");
    assert.ok(client.state.retryIn >= 0 && client.state.retryIn <= 2000);
    client.close();
  },

  async closing_leaves_nothing_behind() {
    for (const wanted of ["connecting", "open", "waiting"]) {
      const client = newClient({}, wanted === "waiting" ? nowhere : url);
      await newState(client, ({ name }) => name === wanted);
      client.markRead("room", { offset: 1, epoch: "e" });
      client.close();
      assert.equal(client.state.name, "closed");
    }
    newClient().close(); // before it has begun
  },

  async many_reconnections_leave_nothing_behind() {
    const client = newClient();
    await client.subscribe("room");
    const resources = () => process.getActiveResourcesInfo().length;
    await client.publish("room", 0);
    const before = resources();
    for (let number = 0; number < 200; number++) {
      client.reconnect();
      await client.publish("room", number);
    }
    await until(() => resources() <= before + 1);
    assert.equal(client.welcome.resumed, true);
    client.close();
  },

  async long_delays_do_not_fire_at_once() {
    const client = newClient({ requestTimeout: 2 ** 33, pingInterval: 2 ** 32 }, nowhere);
    const outcome = codeOf(client.publish("room", 1));
    assert.equal(await Promise.race([outcome, until(() => client.state.failures === 2)]), undefined);
    client.close();
    assert.equal(await outcome, "closed");
  },

  async the_class_of_the_websocket_can_be_given() {
    const made = [];
    class Mine extends WebSocket {
      constructor(...given) {
        super(...given);
        made.push(given[0]);
      }
    }
    const client = newClient({ WebSocket: Mine, extra: "a b" });
    await client.publish("room", 1);
    assert.equal(new URL(made[0]).search, "?user_id=ann&extra=a+b");
    client.close();
  },

  async frames_that_are_not_text_are_passed_over() {
    const client = newClient();
    await client.publish("room", 1);
    assert.equal(client.state.failures, 0);
    client.close();
  },
};

await checks[check]();
assert.deepEqual(warnings.filter((name) => name !== "ExperimentalWarning"), []);
console.log("ok");
