// The page of the hub. It shows messages of any form, and inserts them only as text.

import { WsdClient } from "./client.js";

const KEPT_LINES = 200;
const SHOWN_CHARACTERS = 1000; // of a message: a page of long ones would be slow and hard to read
const SHOWN_OF_A_NAME = 80;
const ANNOUNCED_EVERY = 3000; // milliseconds

const $ = (id) => document.getElementById(id);

// A browser may forbid storage. The page then forgets its name and its token when it is left.
const stored = (name) => { try { return sessionStorage.getItem(name); } catch { return null; } };
const store = (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* forbidden */ } };
const forget = (name) => { try { sessionStorage.removeItem(name); } catch { /* forbidden */ } };

const url = new URL("ws", location.href);
url.protocol = url.protocol.replace("http", "ws");
const name = stored("wsdName") ?? "user-" + Math.random().toString(16).slice(2, 6);
store("wsdName", name);

// Text

function write(node, text) {
  if (node.textContent !== text) node.textContent = text; // a screen reader would read the same text again
}

function shortened(text, length) {
  if (text.length <= length) return text;
  return `${text.slice(0, length)} … and ${(text.length - length).toLocaleString("en")} more characters`;
}

/** Return the text of a message. An application may send JSON of any form. */
function textOf(data) {
  if (typeof data?.text === "string") return data.text || "(empty)";
  try {
    return JSON.stringify(data) ?? "(empty)";
  } catch {
    return "(nested too deeply to be shown)";
  }
}

function nameOf(value) {
  return typeof value === "string" && value ? shortened(value, SHOWN_OF_A_NAME) : "unknown";
}

// The list of messages

function line(who, via, text, isTrouble = false) {
  const item = document.createElement("li"), head = document.createElement("header");
  const from = document.createElement("b"), isolated = document.createElement("bdi");
  const where = document.createElement("span"), at = document.createElement("time"), said = document.createElement("p");
  isolated.textContent = who;
  from.append(isolated);
  where.className = at.className = "quiet";
  where.textContent = via;
  at.textContent = new Date().toLocaleTimeString("en-GB");
  said.textContent = shortened(text, SHOWN_CHARACTERS);
  said.dir = "auto";
  head.append(from, " ", where, " ", at);
  item.append(head, said);
  item.classList.toggle("trouble", isTrouble);
  $("nothing").hidden = true;
  $("messages").prepend(item);
  while ($("messages").childElementCount > KEPT_LINES) $("messages").lastChild.remove();
  announce(`${who}: ${shortened(text, SHOWN_OF_A_NAME)}`);
}

let latest = "", unannounced = 0, announcing = null;

/** Let screen readers speak of new messages, and of many that come together only once. */
function announce(text) {
  latest = text;
  unannounced += 1;
  announcing ??= setTimeout(() => {
    $("announcement").textContent = unannounced === 1 ? latest : `${unannounced} new messages. The latest: ${latest}`;
    unannounced = 0;
    announcing = null;
  }, ANNOUNCED_EVERY);
}

// The token. The page asks for one once the server has refused a connection without one. If a token has only expired,
// the client comes back with a new one and misses nothing.

let token = stored("wsdToken") ?? "";

function currentToken() {
  return token ?? new Promise(() => {}); // the form begins a new connection
}

function askForToken(reason) {
  token = null;
  forget("wsdToken");
  write($("refused"), reason);
  $("entrance").hidden = false;
  $("token").focus();
}

$("entrance").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  store("wsdToken", token);
  $("token").value = $("refused").textContent = "";
  $("entrance").hidden = true;
  $("text").focus();
  client.reconnect();
};

// The connection

const client = new WsdClient(url, { user_id: name, username: name, token: currentToken });
let wasOpen = false;

client.onstate = changed;
client.onmessage = ({ data, from }) => {
  if (from) line(nameOf(from.username), `via ${nameOf(from.worker_id)}`, textOf(data));
  else line("server", "", textOf(data));
};
client.ongap = ({ channel, reason }) => line("gap", "", `Messages in ${channel} were lost: ${reason}`, true);

function show(text, kind, detail) {
  write($("state"), text);
  $("state").dataset.state = kind;
  if (detail === undefined) return;
  write($("detail"), detail);
  $("detail").hidden = !detail;
}

/** Show a state of the client: connecting, open, waiting (until the next attempt) or closed (for good). */
function changed(now, { code, reason, retryIn }) {
  if (now === "open") {
    const { welcome } = client;
    wasOpen = true;
    show("connected", "open", "");
    for (const [id, value] of [["user", welcome.username], ["worker", welcome.worker_id], ["node", welcome.node_id]]) {
      write($(id), nameOf(value));
    }
  } else if (now === "connecting") {
    // The text is the same as while waiting: a screen reader reads it whenever it changes.
    if (token === null) show("waiting for a token", "token", "");
    else show(wasOpen ? "reconnecting" : "connecting", wasOpen ? "waiting" : "connecting");
  } else if (token === null || refusesToken(code, reason)) {
    show("waiting for a token", "token", "");
    if (token !== null) askForToken(reason); // else the page asks already, and the client does not wait for ever
  } else {
    const why = `(${[code, reason].filter(Boolean).join(": ")})`;
    if (now === "closed") show("closed", "closed", `The connection is closed for good ${why}. Reconnect opens a new one.`);
    else show("reconnecting", "waiting", `There is no connection ${why}. ${nextAttempt(retryIn)}`);
  }
}

function refusesToken(code, reason) {
  return code === 4401 || (code === 1008 && /token|authenticat/.test(reason)) || reason?.startsWith("no token");
}

function nextAttempt(retryIn) {
  return retryIn == null ? "The next message opens one." : `The next attempt is in ${(retryIn / 1000).toFixed(1)} s.`;
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text) return;
  $("text").value = "";
  try {
    await client.broadcast({ text });
  } catch (error) {
    line("error", "", error.message, true);
  }
};
$("reconnect").onclick = () => client.reconnect();
