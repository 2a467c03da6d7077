// A hub with socket.io, alone or with its Redis adapter.
import { createServer } from "node:http";
import { Server } from "socket.io";

const [port, redis] = process.argv.slice(2);
const options = { transports: ["websocket"], perMessageDeflate: false };
if (redis) {
  const { createAdapter } = await import("@socket.io/redis-adapter");
  const { createClient } = await import("redis");
  const publisher = createClient({ url: redis });
  const listener = publisher.duplicate();
  await Promise.all([publisher.connect(), listener.connect()]);
  options.adapter = createAdapter(publisher, listener);
}
const http = createServer();
const io = new Server(http, options);
io.on("connection", (socket) => {
  socket.on("join", async (channel) => {
    await socket.join(channel);
    socket.emit("joined");
  });
  socket.on("say", (channel, text) => io.to(channel).emit("m", text));
  socket.on("echo", (text) => socket.emit("m", text));
});
http.listen(Number(port), "127.0.0.1");
