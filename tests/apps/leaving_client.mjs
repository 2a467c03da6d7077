// Leaves a channel while a message to it is under way, and reconnects; prints the channels of each welcome.
import { WsdClient } from "./client.mjs";

const client = new WsdClient(process.argv[2], { user_id: "ann" });
client.onstate = (name) => name === "open" && console.log(JSON.stringify(Object.keys(client.welcome.channels)));
await client.subscribe("left");
await client.subscribe("kept");
await Promise.all([client.publish("left", 1), client.unsubscribe("left")]);
client.reconnect();
