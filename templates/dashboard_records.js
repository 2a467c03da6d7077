// Records as the dashboard shows them. The server may be of another release than the page: a field may be missing, null
// or of another type. Everything that the page reads goes through these functions, so that drawing cannot fail.

export function text(value) {
  if (typeof value === "string") return value;
  try {
    return value == null ? "" : JSON.stringify(value);
  } catch {
    return ""; // nested too deeply
  }
}

export const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
export const list = (value) => (Array.isArray(value) ? value : []);
const record = (value) => (value !== null && typeof value === "object" ? value : {});

/** Return the records of a list. Of those with the same key only the first is kept, and those without a key are left out. */
function records(value, read, key) {
  const found = new Map();
  for (const each of list(value).map(record).map(read)) {
    if (each[key] && !found.has(each[key])) found.set(each[key], each);
  }
  return [...found.values()];
}

function processOf(value) {
  return {
    name: text(value.name),
    state: text(value.state) || "unknown",
    slot: number(value.slot),
    uptime_seconds: number(value.uptime_seconds),
    restarts: number(value.restarts),
    cpu_percent: number(value.cpu_percent),
    rss_bytes: number(value.rss_bytes),
    connections: number(value.connections),
    messages_in_per_second: number(value.messages_in_per_second),
    messages_out_per_second: number(value.messages_out_per_second),
    loop_lag_seconds: number(value.loop_lag_seconds),
  };
}

function nodeOf(value) {
  return {
    node_id: text(value.node_id),
    state: text(value.state) || "unknown",
    workers: number(value.workers),
    ready: number(value.ready),
    connections: number(value.connections),
    problems: list(value.problems).map(text),
    version: text(value.version),
    websocket_url: text(value.websocket_url),
    age_seconds: number(value.age_seconds),
    takes_requests: value.takes_requests === true,
    is_this_node: value.is_this_node === true,
  };
}

export function statusOf(value) {
  const now = record(value);
  const others = [now.nginx, now.valkey, now.relay];
  const processes = [now.supervisor, ...list(now.workers), ...others].filter((each) => each != null);
  return {
    state: text(now.state) || "unknown",
    problems: [...list(now.problems), ...list(now.warnings)].map(text),
    operation: text(now.operation),
    node_id: text(now.node_id),
    url: text(now.url),
    uptime_seconds: number(record(now.supervisor).uptime_seconds),
    processes: records(processes, processOf, "name"),
    workers: records(now.workers, processOf, "name"),
    nodes: records(now.nodes, nodeOf, "node_id"),
  };
}

export function eventsOf(value) {
  return list(value).map(record).map((event) => ({
    at: number(event.at), worker_id: text(event.worker_id), what: text(event.what), detail: text(event.detail),
    source: text(event.source), level: text(event.level), text: text(event.text),
  }));
}

export function channelsOf(value) {
  return records(record(value).channels, (channel) => ({
    name: text(channel.name), connections: number(channel.connections),
  }), "name");
}

export function sessionsOf(value) {
  const answer = record(value);
  const sessions = records(answer.sessions, (session) => ({
    session_id: text(session.session_id),
    user_id: text(session.user_id),
    state: text(session.state) || "unknown",
    worker_id: text(session.worker_id),
    channels: list(session.channels).map(text),
    events: eventsOf(session.events),
  }), "session_id");
  return { sessions, total: number(answer.total) ?? sessions.length };
}

// Formats

const NONE = "–";
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function whole(value) {
  if (value == null) return NONE;
  if (Math.abs(value) < 1e7) return plain.format(value);
  return Math.abs(value) < 1e15 ? compact.format(value) : value.toExponential(1);
}

export const decimal = (value, unit = "") => (value == null ? NONE : (Math.abs(value) < 1e4 ? value.toFixed(1) : whole(value)) + unit);
export const megabytes = (bytes) => (bytes == null ? NONE : `${whole(bytes / 1e6)} MB`);
export const milliseconds = (seconds) => (seconds == null ? NONE : decimal(seconds * 1000, " ms"));

export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(Math.floor(seconds % 60)).padStart(2, "0")}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")}m`;
  return `${whole(Math.floor(seconds / 86_400))}d${String(Math.floor((seconds % 86_400) / 3600)).padStart(2, "0")}h`;
}

/** Return a point in time as { clock, iso }. Both are empty for a number that no date can hold. */
export function moment(seconds) {
  const date = new Date(seconds === null ? NaN : seconds * 1000);
  if (Number.isNaN(date.getTime())) return { clock: NONE, iso: "" };
  return { clock: date.toLocaleTimeString("en-GB"), iso: date.toISOString() };
}
