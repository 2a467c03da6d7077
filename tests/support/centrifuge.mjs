// A program with clients of the package `centrifuge`: prints what happens to them, as one JSON object a line.
//
//     node centrifuge.mjs NODE_MODULES URL CHANNEL CLIENTS FORMAT
import { createRequire } from "node:module";

const [modules, url, channel, clients, format] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Centrifuge } = require(format === "protobuf" ? "centrifuge/build/protobuf" : "centrifuge");
const websocket = require("ws");

const print = (record) => process.stdout.write(`${JSON.stringify(record)}\n`);
const text = (data) => (data instanceof Uint8Array ? JSON.parse(Buffer.from(data).toString()) : data);

for (let number = 0; number < Number(clients); number += 1) {
  const client = new Centrifuge(url, { websocket, minReconnectDelay: 50, maxReconnectDelay: 1000 });
  client.on("connected", () => print({ number, event: "connected" }));
  client.on("disconnected", ({ code, reason }) => print({ number, event: "disconnected", code, reason }));
  const subscription = client.newSubscription(channel);
  subscription.on("subscribed", ({ wasRecovering, recovered }) => {
    print({ number, event: "subscribed", wasRecovering, recovered });
  });
  subscription.on("publication", ({ data }) => print({ number, event: "publication", data: text(data) }));
  subscription.subscribe();
  client.connect();
}
