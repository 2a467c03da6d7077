// The table of all nodes, and the dialog that acts on another node. A node carries out what another one asks for if both
// have the same cluster.cluster_key; without it there are no buttons.

import { duration, whole } from "./dashboard_records.js";

const ACTIONS = {
  restart: { body: () => ({}) },
  "restart-one": { action: "restart", number: "Slot", body: (slot) => ({ slots: [slot] }) },
  drain: { number: "Slot", body: (slot) => ({ slot }) },
  resume: { number: "Slot", body: (slot) => ({ slot }) },
  scale: { number: "Workers", body: (workers) => ({ workers }) },
  rebalance: { body: () => ({}) },
  reload: { body: () => ({}) },
};

const $ = (id) => document.getElementById(id);

/** Return a function that shows the nodes of a status. The arguments are the functions with which the page draws and acts. */
export function nodesTable({ element, write, rows, button, operate }) {
  let asked = ""; // the node that the dialog is about

  function showNumber() {
    const { number } = ACTIONS[$("act-action").value];
    for (const id of ["act-number", "act-number-label"]) $(id).hidden = !number;
    $("act-number").disabled = !number; // a field that is not shown must not be checked
    write($("act-number-label"), number ?? "Slot");
  }

  function ask(nodeId) {
    if ($("act").open) return;
    asked = nodeId;
    write($("act-title"), `Act on node ${nodeId}`);
    $("act").returnValue = "no";
    showNumber();
    $("act").showModal();
  }

  $("act-action").onchange = showNumber;
  $("act").onclose = () => {
    if ($("act").returnValue !== "yes") return;
    const name = $("act-action").value, { action = name, body } = ACTIONS[name];
    operate("on-node", { node: asked, action, body: body(Number($("act-number").value)) });
  };
  $("rebalance-nodes").onclick = () =>
    operate("rebalance-nodes", {}, "Move clients between nodes? Those beyond the share of a node are disconnected and resume on another.", "Move");

  function nodeRow(first) {
    const cell = (kind = "number") => element("td", { class: kind });
    const name = element("th", { scope: "row" });
    const cells = { state: cell("state"), workers: cell(), connections: cell(), seen: cell(), version: cell(""), address: cell("long"), problem: cell("long") };
    const act = button("Act …", `Act … on node ${first.node_id}`, () => ask(first.node_id));
    const row = element("tr", {}, name, ...Object.values(cells), element("td", {}, act));
    row.update = (node) => {
      const isGone = node.state === "gone";
      write(name, node.is_this_node ? `${node.node_id} (this one)` : node.node_id);
      write(cells.state, node.state);
      cells.state.dataset.state = node.state;
      write(cells.workers, isGone ? "" : node.ready === null ? whole(node.workers) : `${whole(node.ready)}/${whole(node.workers)}`);
      write(cells.connections, isGone ? "" : whole(node.connections));
      write(cells.seen, node.is_this_node ? "" : duration(node.age_seconds));
      write(cells.version, node.version);
      write(cells.address, node.websocket_url);
      write(cells.problem, node.problems[0] ?? "");
      cells.problem.title = node.problems.join("\n");
      act.hidden = node.is_this_node || !mayAsk || !node.takes_requests;
      act.disabled = isBusy;
    };
    return row;
  }

  let mayAsk = false, isBusy = false;

  return (status) => {
    const others = status.nodes.filter((node) => !node.is_this_node);
    mayAsk = status.nodes.some((node) => node.is_this_node && node.takes_requests);
    isBusy = status.operation !== "";
    $("rebalance-nodes").disabled = isBusy || !mayAsk || others.length === 0;
    write($("nodes-note"), mayAsk ? "" : "Set the same cluster.cluster_key on all nodes to act on the others from here.");
    rows($("nodes"), status.nodes, (node) => node.node_id, nodeRow);
  };
}
