// The dashboard of the cluster. It draws the status that a stream of events delivers every second, and its buttons send
// requests. Nothing is loaded from other sites, and names that clients chose are only ever inserted as text.

import { nodesTable } from "./dashboard_nodes.js";
import {
  channelsOf, decimal, duration, eventsOf, megabytes, milliseconds, moment, sessionsOf, statusOf, whole,
} from "./dashboard_records.js";

const $ = (id) => document.getElementById(id);
const SAMPLES = 120; // per chart, one each second
const REFRESH_SECONDS = 5; // how often sessions and channels are asked for
const RETRY_SECONDS = 2;
const SILENCE_SECONDS = 10; // the status comes every second: a stream that is silent for so long is broken
const PAGE = 25;
const EVENTS = 300;

let status = null; // null until the first status has come, and again while the cluster is away
let offset = 0;

// Elements

function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text; // a screen reader would read the same text again
}

/** Show one row per item. Rows are kept by their key, so that a focused button keeps the focus.
 * `make(item)` returns a new row, an element with a method `update(item)`. */
function rows(body, items, key, make) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    const row = known.get(key(item)) ?? make(item);
    row.dataset.key = key(item);
    row.update(item);
    return row;
  });
  const same = wanted.length === body.children.length && wanted.every((row, at) => row === body.children[at]);
  if (same) return;
  const focused = document.activeElement;
  body.replaceChildren(...wanted);
  if (body.contains(focused)) focused.focus();
}

// Charts

class Chart {
  constructor(label) {
    const svg = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);
    this.label = label;
    this.samples = [];
    this.node = svg("svg");
    this.node.setAttribute("viewBox", `0 0 ${SAMPLES} 100`);
    this.node.setAttribute("preserveAspectRatio", "none");
    this.node.setAttribute("role", "img");
    this.node.setAttribute("aria-label", label);
    this.area = svg("polygon");
    this.line = svg("polyline");
    this.node.append(this.area, this.line);
  }

  add(value, shown) {
    this.samples.push(Math.max(0, value ?? 0));
    if (this.samples.length > SAMPLES) this.samples.shift();
    const highest = Math.max(...this.samples, 1);
    const start = SAMPLES - this.samples.length;
    const points = this.samples.map((sample, at) => `${start + at},${(98 - (sample / highest) * 96).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `${start},100 ${points.join(" ")} ${SAMPLES - 1},100`);
    this.node.setAttribute("aria-label", `${this.label}: ${shown} now, at most ${whole(highest)} in the last two minutes`);
  }
}

/** Return a sum, or the largest number there is: a sum of huge numbers has no end. */
const sum = (values) => Math.min(values.reduce((total, value) => total + (value ?? 0), 0), Number.MAX_VALUE);

const TOTALS = {
  connections: { label: "Connections", of: (s) => sum(s.workers.map((w) => w.connections)), show: whole },
  received: { label: "Messages/s in", of: (s) => sum(s.workers.map((w) => w.messages_in_per_second)), show: whole },
  sent: { label: "Messages/s out", of: (s) => sum(s.workers.map((w) => w.messages_out_per_second)), show: whole },
  cpu: { label: "CPU, % of a core", of: (s) => sum(s.processes.map((p) => p.cpu_percent)), show: decimal },
  lag: { label: "Worst loop lag, ms", of: (s) => Math.max(0, ...s.workers.map((w) => sum([(w.loop_lag_seconds ?? 0) * 1000]))), show: decimal },
};

for (const [name, total] of Object.entries(TOTALS)) {
  total.chart = new Chart(total.label);
  // No <output>: a screen reader would read every figure aloud every second.
  total.figure = element("p", { id: `total-${name}`, text: "–" });
  $("totals").append(element("figure", { class: "card" }, element("figcaption", { text: total.label }), total.figure, total.chart.node));
}

// The stream of status and events

function showStatus(now) {
  status = now;
  $("away").hidden = true;
  state(now.state);
  write($("where"), `node ${now.node_id}, ${now.url}, up ${duration(now.uptime_seconds)}`);
  if (now.operation || !$("operation").classList.contains("error")) notify(now.operation);
  showProblems(now.problems);
  for (const total of Object.values(TOTALS)) {
    const value = total.of(now);
    write(total.figure, total.show(value));
    total.chart.add(value, total.show(value));
  }
  rows($("processes"), now.processes, (process) => process.name, processRow);
  showNodes(now);
  if (document.activeElement !== $("workers")) $("workers").value = now.workers.length;
  for (const id of ["restart-all", "rebalance", "scale-button"]) $(id).disabled = now.operation !== "";
}

function showProblems(problems) {
  const shown = $("problems");
  shown.hidden = problems.length === 0;
  if (shown.dataset.shown === problems.join("\n")) return;
  shown.dataset.shown = problems.join("\n");
  shown.replaceChildren(...problems.map((text) => element("li", { text })));
}

function state(text) {
  write($("state"), text);
  $("state").dataset.state = text.split(/\W/)[0];
}

function notify(text, isError = false) {
  write($("operation"), text);
  $("operation").classList.toggle("error", isError);
}

function processRow(first) {
  const isWorker = first.slot !== null;
  const cell = (kind = "number") => element("td", { class: kind });
  const cells = { state: cell("state"), connections: cell(), sent: cell(), cpu: cell(), lag: cell(), memory: cell(), restarts: cell(), up: cell() };
  const charts = isWorker ? [new Chart(`Connections of ${first.name}`), new Chart(`Messages/s of ${first.name}`)] : [];
  const restart = button("Restart", `Restart ${first.name}`, () =>
    operate("restart", { slots: [first.slot] }, `Restart ${first.name}?`, "Restart"));
  const drain = button("Drain", `Drain ${first.name}`, () =>
    drain.textContent === "Drain"
      ? operate("drain", { slot: first.slot }, `Take ${first.name} out of service? Its clients resume on other workers.`, "Drain")
      : operate("resume", { slot: first.slot }));
  const row = element("tr", {},
    element("th", { scope: "row", text: first.name, title: first.name }), cells.state, cells.connections, element("td", {}, ...charts.slice(0, 1).map((c) => c.node)),
    cells.sent, element("td", {}, ...charts.slice(1).map((c) => c.node)), cells.cpu, cells.lag, cells.memory, cells.restarts, cells.up,
    element("td", {}, ...(isWorker ? [restart, drain] : [])));
  row.update = (process) => {
    write(cells.state, process.state);
    cells.state.dataset.state = process.state;
    write(cells.connections, isWorker ? whole(process.connections) : "");
    write(cells.sent, isWorker ? whole(process.messages_out_per_second) : "");
    write(cells.cpu, decimal(process.cpu_percent));
    write(cells.lag, isWorker ? milliseconds(process.loop_lag_seconds) : "");
    write(cells.memory, megabytes(process.rss_bytes));
    write(cells.restarts, whole(process.restarts));
    write(cells.up, duration(process.uptime_seconds));
    charts[0]?.add(process.connections, whole(process.connections));
    charts[1]?.add(process.messages_out_per_second, whole(process.messages_out_per_second));
    const isDrained = process.state === "drained";
    write(drain, isDrained ? "Resume" : "Drain");
    drain.setAttribute("aria-label", `${drain.textContent} ${process.name}`);
    restart.disabled = isDrained || status.operation !== "";
    drain.disabled = status.operation !== "";
  };
  return row;
}

function timeOf(event) {
  const { clock, iso } = moment(event.at);
  return element("time", { text: clock, datetime: iso });
}

function showEvents(events, isFirst) {
  if (isFirst) $("events").replaceChildren();
  for (const event of events) {
    const line = element("li", { "data-state": event.level });
    line.append(timeOf(event), `${event.source}  ${event.text}`);
    $("events").prepend(line);
  }
  while ($("events").childElementCount > EVENTS) $("events").lastChild.remove();
}

/** Read the stream until it ends. Raises Refused, or what `fetch` raises. An EventSource would hide why it failed. */
async function follow() {
  const silence = new AbortController();
  let timer = null, isFirst = true, rest = "";
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
  };
  try {
    heard();
    const answer = await fetch("stream", { signal: silence.signal });
    if (!answer.ok) throw await refused(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).split("\n\n"); // HTML Standard, section 9.2: a blank line ends an event
      rest = blocks.pop();
      for (const block of blocks) {
        try {
          const tick = JSON.parse(block.slice("data: ".length)) ?? {};
          showStatus(statusOf(tick.status));
          showEvents(eventsOf(tick.events), isFirst);
          isFirst = false;
        } catch (error) {
          reportError(error); // a fault in this page: the next status may be shown all the same
        }
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

async function listen() {
  let failure = null;
  try {
    await follow();
  } catch (error) {
    failure = error;
  }
  status = null;
  for (const made of document.querySelectorAll("#processes button, #nodes button, #restart-all, #rebalance, #rebalance-nodes, #scale-button")) made.disabled = true;
  const code = failure instanceof Refused ? failure.status : 0;
  if (code === 401) return leave("logged out", "The dashboard asks for its token again.", true);
  if (code === 403 || code === 404) return leave("closed", `The dashboard is closed to this browser: ${failure.message}.`);
  away("away: reconnecting", code === 503 ? `${failure.message}. This page tries again.` : "The cluster does not answer. This page tries again.");
  setTimeout(listen, RETRY_SECONDS * 1000);
}

function away(word, text, mayLogIn = false) {
  state(word);
  write($("away-text"), text);
  $("enter").hidden = !mayLogIn;
  $("away").hidden = false;
}

/** Say that the page has ended. A reload begins anew. */
function leave(word, text, mayLogIn = false) {
  away(word, text, mayLogIn);
  $("state").dataset.state = "closed";
  clearInterval(refreshing);
}

// Requests

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the error that an answer stands for. It is JSON from the supervisor, text from the gate, HTML from nginx. */
async function refused(answer) {
  const body = await answer.text().catch(() => "");
  let reason = "";
  try {
    reason = JSON.parse(body).error;
  } catch {
    if (answer.headers.get("Content-Type")?.startsWith("text/plain")) reason = body.trim();
  }
  return new Refused(answer.status, typeof reason === "string" && reason ? reason : `the cluster answers with ${answer.status}`);
}

async function request(path, options) {
  const answer = await fetch(`api/${path}`, options);
  if (!answer.ok) throw await refused(answer);
  return answer.json();
}

function post(name, body) {
  return request(name, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-WSD-Dashboard": "1" },
    body: JSON.stringify(body),
  });
}

// Sessions, channels and traces, which the workers are asked for

async function refresh() {
  if (document.hidden || status === null) return;
  const query = new URLSearchParams({ offset, limit: PAGE, user: $("user").value });
  try {
    const [channels, found] = await Promise.all([
      request(`channels?limit=${PAGE}`).then(channelsOf), request(`sessions?${query}`).then(sessionsOf),
    ]);
    $("no-channels").hidden = channels.length > 0;
    rows($("channels"), channels, (channel) => channel.name, channelRow);
    rows($("sessions"), found.sessions, (session) => session.session_id, sessionRow);
    const count = found.sessions.length;
    write($("page"), count ? `${offset + 1} to ${offset + count} of ${whole(found.total)}` : "none");
    $("previous").disabled = offset === 0;
    $("next").disabled = offset + count >= found.total;
  } catch (error) {
    write($("page"), error.message);
  }
}

function channelRow() {
  const name = element("th", { scope: "row" }), connections = element("td", { class: "number" });
  const row = element("tr", {}, name, connections);
  row.update = (channel) => {
    write(name, channel.name);
    write(connections, whole(channel.connections));
  };
  return row;
}

function sessionRow(first) {
  const user = element("th", { scope: "row", title: first.user_id }), where = element("td"), now = element("td"), channels = element("td", { class: "long" });
  const row = element("tr", {}, user, now, where, channels, element("td", {},
    button("Trace", `Trace the session of ${first.user_id}`, () => showTrace(first.session_id)),
    button("Kick", `Kick ${first.user_id}: end the session`, () => kick(first))));
  row.update = (session) => {
    write(user, session.user_id);
    write(now, session.state);
    now.dataset.state = session.state;
    write(where, session.worker_id);
    write(channels, session.channels.join(" ") || "–");
  };
  return row;
}

async function showTrace(sessionId) {
  try {
    const { sessions: [session] } = sessionsOf(await request(`trace?who=${encodeURIComponent(sessionId)}`));
    write($("trace-title"), session ? `Session of ${session.user_id}, ${session.state}` : "Nothing is known about this session");
    $("trace-events").replaceChildren(...(session?.events ?? []).map((event) =>
      element("li", {}, timeOf(event), `${event.worker_id}  ${event.what} ${event.detail}`)));
    if (!$("trace").open) $("trace").showModal();
  } catch (error) {
    notify(error.message, true);
  }
}

// Actions

function button(text, label, onclick) {
  const made = element("button", { type: "button", text, "aria-label": label });
  made.onclick = onclick;
  return made;
}

/** Ask a question with the buttons Cancel and `action`. Return whether the answer is `action`. */
function confirmed(question, action) {
  const dialog = $("confirm");
  if (dialog.open) return Promise.resolve(false);
  write($("question"), question);
  write($("yes"), action);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue === "yes")));
}

async function operate(name, body, question, action) {
  if (question && !(await confirmed(question, action))) return;
  try {
    notify(`${name} …`);
    await post(name, body);
  } catch (error) {
    notify(error.message, true);
  }
}

async function kick(session) {
  if (!(await confirmed(`End the session of ${session.user_id}? The client is disconnected and cannot resume it.`, "Kick"))) return;
  try {
    await post("kick", { who: session.session_id });
    await refresh();
  } catch (error) {
    notify(error.message, true);
  }
}

const showNodes = nodesTable({ element, write, rows, button, operate });

$("restart-all").onclick = () => operate("restart", {}, "Restart all workers? Clients resume on the new processes.", "Restart");
$("rebalance").onclick = () =>
  operate("rebalance", {}, "Spread connections evenly? Some clients are disconnected and resume on other workers.", "Rebalance");
$("scale").onsubmit = (submitted) => {
  submitted.preventDefault();
  if (status === null) return;
  const wanted = Number($("workers").value);
  $("workers").blur();
  operate("scale", { workers: wanted }, `Scale from ${status.workers.length} to ${wanted} workers?`, "Scale");
};
$("search").onsubmit = (submitted) => {
  submitted.preventDefault();
  offset = 0;
  refresh();
};
$("previous").onclick = () => { offset = Math.max(0, offset - PAGE); refresh(); };
$("next").onclick = () => { offset += PAGE; refresh(); };

const refreshing = setInterval(refresh, REFRESH_SECONDS * 1000);
setTimeout(refresh, 1500);
listen();
