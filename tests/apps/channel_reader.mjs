// Subscribes to channels and prints every message and state: node channel_reader.mjs URL CHANNELS_AS_JSON
import { WsdClient } from "./client.mjs";

const client = new WsdClient(process.argv[2], { user_id: "constructor" });
const say = (message) => console.log(JSON.stringify(message));
client.onmessage = say;
client.onstate = (state) => say({ state });
const names = JSON.parse(process.argv[3]);
for (const channel of names) await client.subscribe(channel);
say({ state: "ready" });
