// A hub with ws, the most used WebSocket library of node.
import { WebSocketServer } from "ws";

const channels = new Map();
new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: false }).on(
  "connection",
  (socket) => {
    const own = [];
    socket.on("message", (data) => {
      const text = data.toString();
      if (text[0] === "+") {
        const name = text.slice(1);
        if (!channels.has(name)) channels.set(name, new Set());
        channels.get(name).add(socket);
        own.push(name);
        socket.send(text);
      } else if (text[0] === "=") {
        socket.send(text);
      } else {
        for (const member of channels.get(text.slice(0, text.indexOf(" "))) ?? []) member.send(text);
      }
    });
    socket.on("close", () => own.forEach((name) => channels.get(name).delete(socket)));
  },
);
