// The dashboard of the cluster. It draws the status that a stream of events delivers every second, and its buttons send
// requests. Nothing is loaded from other sites, and names that clients chose are only ever inserted as text.

const $ = (id) => document.getElementById(id);
const SAMPLES = 120; // per chart, one each second
const REFRESH_SECONDS = 5; // how often sessions and channels are asked for
const PAGE = 25;
const EVENTS = 300;

let status = null;
let offset = 0;

// Formatting and elements

const whole = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
const decimal = (value, unit = "") => (value == null ? "–" : value.toFixed(1) + unit);
const megabytes = (bytes) => (bytes == null ? "–" : Math.round(bytes / 1e6) + " MB");
const milliseconds = (seconds) => (seconds == null ? "–" : (seconds * 1000).toFixed(1) + " ms");
const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds % 60)).padStart(2, "0")}s`;
  return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")}m`;
}

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
    this.area = svg("polygon");
    this.line = svg("polyline");
    this.node.append(this.area, this.line);
  }

  add(value, shown) {
    this.samples.push(value ?? 0);
    if (this.samples.length > SAMPLES) this.samples.shift();
    const highest = Math.max(...this.samples, 1);
    const start = SAMPLES - this.samples.length;
    const points = this.samples.map((sample, at) => `${start + at},${(98 - (sample / highest) * 96).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `${start},100 ${points.join(" ")} ${SAMPLES - 1},100`);
    this.node.setAttribute("aria-label", `${this.label}: ${shown} now, at most ${whole(highest)} in the last two minutes`);
  }
}

const TOTALS = {
  connections: { label: "Connections", of: (s) => sum(s.workers.map((w) => w.connections)), show: whole },
  received: { label: "Messages/s in", of: (s) => sum(s.workers.map((w) => w.messages_in_per_second)), show: whole },
  sent: { label: "Messages/s out", of: (s) => sum(s.workers.map((w) => w.messages_out_per_second)), show: whole },
  cpu: { label: "CPU, % of a core", of: (s) => sum(processes(s).map((p) => p.cpu_percent)), show: decimal },
  lag: { label: "Worst loop lag, ms", of: (s) => Math.max(0, ...s.workers.map((w) => (w.loop_lag_seconds ?? 0) * 1000)), show: decimal },
};

for (const [name, total] of Object.entries(TOTALS)) {
  total.chart = new Chart(total.label);
  total.output = element("output", { id: `total-${name}`, text: "–" });
  $("totals").append(element("figure", {}, element("figcaption", { text: total.label }), total.output, total.chart.node));
}

// The stream of status and events

const processes = (s) => [s.supervisor, ...s.workers, s.nginx, s.valkey].filter(Boolean);

function showStatus(now) {
  status = now;
  state(now.state);
  write($("where"), `node ${now.node_id}, ${now.url}, up ${duration(now.supervisor.uptime_seconds)}`);
  if (now.operation || !$("operation").classList.contains("error")) notify(now.operation ?? "");
  showProblems([...now.problems, ...now.warnings]);
  for (const total of Object.values(TOTALS)) {
    const value = total.of(now);
    write(total.output, total.show(value));
    total.chart.add(value, total.show(value));
  }
  rows($("processes"), processes(now), (process) => process.name, processRow);
  rows($("nodes"), now.nodes, (node) => node.node_id, nodeRow);
  if (document.activeElement !== $("workers")) $("workers").value = now.workers.length;
  for (const id of ["restart-all", "rebalance"]) $(id).disabled = now.operation !== null;
}

function showProblems(problems) {
  const list = $("problems");
  list.hidden = problems.length === 0;
  if (list.dataset.shown === problems.join("\n")) return;
  list.dataset.shown = problems.join("\n");
  list.replaceChildren(...problems.map((text) => element("li", { text })));
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
  const isWorker = first.slot !== undefined;
  const cell = (kind = "number") => element("td", { class: kind });
  const cells = { state: cell("state"), connections: cell(), sent: cell(), cpu: cell(), lag: cell(), memory: cell(), restarts: cell(), up: cell() };
  const charts = isWorker ? [new Chart(`Connections of ${first.name}`), new Chart(`Messages/s of ${first.name}`)] : [];
  const restart = button("Restart", `Restart ${first.name}`, () => operate("restart", { slots: [first.slot] }, `Restart ${first.name}?`));
  const drain = button("Drain", `Drain ${first.name}`, () =>
    drain.textContent === "Drain"
      ? operate("drain", { slot: first.slot }, `Take ${first.name} out of service? Its clients resume on other workers.`)
      : operate("resume", { slot: first.slot }));
  const row = element("tr", {},
    element("th", { scope: "row", text: first.name }), cells.state, cells.connections, element("td", {}, ...charts.slice(0, 1).map((c) => c.node)),
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
    write(cells.restarts, String(process.restarts));
    write(cells.up, duration(process.uptime_seconds));
    charts[0]?.add(process.connections, whole(process.connections));
    charts[1]?.add(process.messages_out_per_second, whole(process.messages_out_per_second));
    const isDrained = process.state === "drained";
    write(drain, isDrained ? "Resume" : "Drain");
    drain.setAttribute("aria-label", `${drain.textContent} ${process.name}`);
    restart.disabled = isDrained || status.operation !== null;
    drain.disabled = status.operation !== null;
  };
  return row;
}

function nodeRow() {
  const name = element("th", { scope: "row" }), workers = element("td", { class: "number" }), connections = element("td", { class: "number" });
  const row = element("tr", {}, name, workers, connections);
  row.update = (node) => {
    write(name, node.node_id === status.node_id ? `${node.node_id} (this one)` : node.node_id);
    write(workers, whole(node.workers));
    write(connections, whole(node.connections));
  };
  return row;
}

function showEvents(events, isFirst) {
  if (isFirst) $("events").replaceChildren();
  for (const event of events) {
    const line = element("li", { "data-state": event.level });
    line.append(element("time", { text: clock(event.at), datetime: new Date(event.at * 1000).toISOString() }), `${event.source}  ${event.text}`);
    $("events").prepend(line);
  }
  while ($("events").childElementCount > EVENTS) $("events").lastChild.remove();
}

function listen() {
  const stream = new EventSource("stream");
  let isFirst = true;
  stream.onopen = () => (isFirst = true);
  stream.onmessage = (message) => {
    const { status: now, events } = JSON.parse(message.data);
    showStatus(now);
    showEvents(events, isFirst);
    isFirst = false;
  };
  stream.onerror = () => {
    state("away: reconnecting");
    // The browser does not retry after an HTTP error, which nginx sends while the supervisor is away.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
}

// Sessions, channels and traces, which the workers are asked for

async function ask(path) {
  const answer = await fetch(`api/${path}`);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? answer.statusText);
  return answer.json();
}

async function refresh() {
  if (document.hidden || status === null) return;
  const query = new URLSearchParams({ offset, limit: PAGE, user: $("user").value });
  try {
    const [channels, sessions] = await Promise.all([ask(`channels?limit=${PAGE}`), ask(`sessions?${query}`)]);
    rows($("channels"), channels.channels, (channel) => channel.name, channelRow);
    rows($("sessions"), sessions.sessions, (session) => session.session_id, sessionRow);
    const count = sessions.sessions.length;
    write($("page"), count ? `${offset + 1} to ${offset + count} of ${sessions.total}` : "none");
    $("previous").disabled = offset === 0;
    $("next").disabled = offset + count >= sessions.total;
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
  const user = element("th", { scope: "row" }), where = element("td"), now = element("td"), channels = element("td", { class: "long" });
  const row = element("tr", {}, user, now, where, channels, element("td", {},
    button("Trace", `Trace the session of ${first.user_id}`, () => showTrace(first.session_id)),
    button("Kick", `End the session of ${first.user_id}`, () => kick(first))));
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
    const { sessions: [session] } = await ask(`trace?who=${encodeURIComponent(sessionId)}`);
    write($("trace-title"), session ? `Session of ${session.user_id}, ${session.state}` : "Nothing is known about this session");
    $("trace-events").replaceChildren(...(session?.events ?? []).map((event) =>
      element("li", {}, element("time", { text: clock(event.at) }), `${event.worker_id}  ${event.what} ${event.detail}`)));
    $("trace").showModal();
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

function confirmed(question) {
  write($("question"), question);
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue === "yes")));
}

async function post(name, body) {
  const answer = await fetch(`api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-WSD-Dashboard": "1" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? answer.statusText);
  return answer.json();
}

async function operate(name, body, question) {
  if (question && !(await confirmed(question))) return;
  try {
    notify(`${name} …`);
    await post(name, body);
  } catch (error) {
    notify(error.message, true);
  }
}

async function kick(session) {
  if (!(await confirmed(`End the session of ${session.user_id}? The client is disconnected and cannot resume it.`))) return;
  try {
    await post("kick", { who: session.session_id });
    await refresh();
  } catch (error) {
    notify(error.message, true);
  }
}

$("restart-all").onclick = () => operate("restart", {}, "Restart all workers? Clients resume on the new processes.");
$("rebalance").onclick = () => operate("rebalance", {}, "Spread connections evenly? Some clients are disconnected and resume on other workers.");
$("scale").onsubmit = (submitted) => {
  submitted.preventDefault();
  const wanted = Number($("workers").value);
  $("workers").blur();
  operate("scale", { workers: wanted }, `Scale from ${status.workers.length} to ${wanted} workers?`);
};
$("search").onsubmit = (submitted) => {
  submitted.preventDefault();
  offset = 0;
  refresh();
};
$("previous").onclick = () => { offset = Math.max(0, offset - PAGE); refresh(); };
$("next").onclick = () => { offset += PAGE; refresh(); };

listen();
setInterval(refresh, REFRESH_SECONDS * 1000);
setTimeout(refresh, 1500);
