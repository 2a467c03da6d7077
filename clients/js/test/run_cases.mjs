// Runs the table of cases in clients/cases over the machine: node run_cases.mjs [part of a name]
// Prints what differs, and ends with the exit code 1 if anything does.
import { readdirSync, readFileSync } from "node:fs";

import { End } from "../src/ends.js";
import { WsdError } from "../src/errors.js";
import { Machine } from "../src/machine.js";

const CASES = new URL("../../cases/", import.meta.url);

const WELCOME = {
  type: "welcome",
  session_id: "s1",
  user_id: "guest-1",
  username: "guest-1",
  resumed: false,
  resume_token: "r1",
  channels: { broadcast: { offset: 0, epoch: "e" }, direct: { offset: 0, epoch: "e" } },
  limits: {},
};

/** A machine of one case, with its events and effects in the words of the cases. */
class Run {
  #begun = 0; // the latest attempt

  constructor({ settings = {}, random = 0.5, from }) {
    const numbers = [random].flat();
    const inCamelCase = Object.entries(settings).map(([name, value]) => [camelCase(name), value]);
    const next = () => (numbers.length > 1 ? numbers.shift() : numbers[0]);
    this.machine = new Machine(Object.fromEntries(inCamelCase), "run", next);
    if (from === undefined) return;
    const fields = from === "open" ? {} : from;
    for (const event of [["start"], ["token", null], ["opened"], ["welcome", fields]]) {
      this.do(0, event);
      this.effects();
    }
  }

  /** Report an event to the machine. Return what it returns. */
  do(now, [event, ...given]) {
    const machine = this.machine;
    const [first, second, third] = given;
    const attempt = (number) => number ?? this.#begun;
    switch (event) {
      case "call":
        return machine.call(now, first, second, third ?? null);
      case "subscribe":
        return machine.subscribe(now, first, second?.last ?? 0, second?.timeout ?? null, second?.token ?? null);
      case "unsubscribe":
        return machine.unsubscribe(now, first, second?.timeout ?? null);
      case "cancel":
        return machine.cancel(now, first);
      case "discard":
        return machine.discardWaiting(now);
      case "mark_read":
        return machine.markRead(now, first, second ?? null);
      case "token":
        return machine.tokenReady(now, attempt(second), first);
      case "token_failed":
        return machine.tokenFailed(now, attempt(second), first);
      case "channel_token":
        return machine.channelTokenReady(now, first, second);
      case "channel_token_failed":
        return machine.channelTokenFailed(now, first, second);
      case "opened":
        return machine.opened(now, attempt(first));
      case "welcome": {
        const welcome = Object.entries({ ...WELCOME, ...first }).filter(([, value]) => value !== null);
        return machine.received(now, attempt(second), JSON.stringify(Object.fromEntries(welcome)));
      }
      case "hub":
        return machine.received(now, attempt(second), JSON.stringify(first));
      case "text":
        return machine.received(now, attempt(second), first);
      case "ended": {
        const { retry_after: retryAfter, ...end } = first;
        return machine.ended(now, attempt(second), new End({ ...end, retryAfter }));
      }
      default:
        return machine[camelCase(event)](now); // start, tick, wake and so on
    }
  }

  /** Return the effects of the last event. */
  effects() {
    return this.machine.takeEffects().map((effect) => this.#inWords(effect));
  }

  #inWords(effect) {
    if (effect.type === "AskToken") {
      expect(effect.attempt, ++this.#begun, "attempts are counted");
    } else if ("attempt" in effect) {
      expect(effect.attempt, this.#begun, "nothing is done with an earlier attempt");
    }
    switch (effect.type) {
      case "AskToken":
        return ["ask_token"];
      case "AskNewToken":
        return ["ask_new_token"];
      case "AskChannelToken":
        return ["ask_channel_token", effect.request, effect.channel, effect.source];
      case "Connect":
        return ["connect", effect.query, effect.token];
      case "Send":
        return ["send", JSON.parse(effect.text)];
      case "Disconnect":
        return ["disconnect", effect.code];
      case "Resolve":
        return ["resolve", effect.request, effect.answer];
      case "Reject":
        return ["reject", effect.request, effect.code, effect.message];
      case "Deliver":
        return ["deliver", effect.message];
      case "Gap":
        return ["gap", effect.channel, effect.reason];
      case "PresenceChanged":
        return ["presence", effect.event];
      case "Left":
        return ["left", effect.channel, effect.code];
      case "StateChanged": {
        const { name, reason, code, status, retryIn, failures } = effect.state;
        const seen = Object.entries({ code, status, retry_in: retryIn }).filter(([, value]) => value !== null);
        return ["state", name, { ...Object.fromEntries(seen), ...(failures ? { failures } : {}), reason }];
      }
      default:
        throw new Error(`an unknown effect: ${effect.type}`);
    }
  }
}

/** Return an effect with those of its texts for people that a case names in part, as the case has them. */
function loosened(effect, expected) {
  if (expected === undefined || effect[0] !== expected[0]) return effect;
  if (effect[0] === "reject") {
    const isThere = expected.length < 4 || effect[3].includes(expected[3]);
    return isThere ? [...effect.slice(0, 3), ...expected.slice(3)] : effect;
  }
  if (effect[0] !== "state") return effect;
  const { reason, ...fields } = effect[2];
  const wanted = expected[2] ?? {};
  if (wanted.reason !== undefined) fields.reason = reason.includes(wanted.reason) ? wanted.reason : reason;
  return expected.length > 2 || Object.keys(fields).length ? ["state", effect[1], fields] : ["state", effect[1]];
}

/** Return whether two values are the same JSON. Numbers may differ by less than a millionth. */
function same(one, other) {
  if (typeof one === "number" && typeof other === "number") return Math.abs(one - other) < 1e-6;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return one === other;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && same(one[key], other[key]))
  );
}

function expect(seen, expected, what) {
  if (!same(seen, expected)) {
    throw new Error(`${what}\n  seen     ${JSON.stringify(seen)}\n  expected ${JSON.stringify(expected)}`);
  }
}

function camelCase(name) {
  return name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

function play(one) {
  const run = new Run(one);
  let now = 0;
  one.steps.forEach((step, index) => {
    now = step.at ?? now;
    const where = `step ${index + 1} ${JSON.stringify(step.do)}`;
    let returned;
    let raised = null;
    try {
      returned = run.do(now, step.do);
    } catch (error) {
      if (!(error instanceof WsdError)) throw error;
      raised = error.code;
    }
    expect(raised, step.raises ?? null, `${where}: the error`);
    const { then = [] } = step;
    const seen = run.effects().map((effect, place) => loosened(effect, then[place]));
    expect(seen, then, where);
    const { requests, bytes } = run.machine.waiting;
    if ("returns" in step) expect(returned, step.returns, `${where}: what it returns`);
    if ("deadline" in step) expect(run.machine.deadline, step.deadline, `${where}: the deadline`);
    if ("waiting" in step) expect([requests, bytes], step.waiting, `${where}: what waits`);
  });
}

const part = process.argv[2] ?? "";
const files = readdirSync(CASES).filter((name) => name.endsWith(".json")).sort();
const all = files.flatMap((file) => JSON.parse(readFileSync(new URL(file, CASES), "utf8")));
const chosen = all.filter(({ name, only = ["js"] }) => only.includes("js") && name.includes(part));
let failed = 0;
for (const one of chosen) {
  try {
    play(one);
  } catch (error) {
    failed += 1;
    console.log(`${one.name}\n${error instanceof Error ? (error.message.startsWith("step") ? error.message : error.stack) : error}\n`);
  }
}
console.log(`${chosen.length - failed} of ${chosen.length} cases pass`);
process.exitCode = failed || !chosen.length ? 1 : 0;
