// A hub with the publish() of Bun, which is uWebSockets in C++.
Bun.serve({
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("no")),
  websocket: {
    publishToSelf: true,
    backpressureLimit: 64 * 1024 * 1024,
    idleTimeout: 0,
    message(socket, text) {
      if (text[0] === "+") {
        socket.subscribe(text.slice(1));
        socket.send(text);
      } else if (text[0] === "=") {
        socket.send(text);
      } else {
        socket.publish(text.slice(0, text.indexOf(" ")), text);
      }
    },
  },
});
