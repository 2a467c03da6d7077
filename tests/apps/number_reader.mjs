// Prints what is published to `numbers`, and publishes 1, 2, 3 ... to `counted` at the same time.
import { WsdClient } from "./client.mjs";

const client = new WsdClient(process.argv[2], { user_id: "reader" });
const say = (message) => console.log(JSON.stringify(message));
client.onmessage = say;
client.ongap = (gap) => say({ type: "gap", ...gap });
client.onstate = (name) => { if (name === "open") say({ type: "worker", id: client.welcome.worker_id }); };
await client.subscribe("numbers");
say({ type: "ready" });
for (let number = 1; ; number++) {
  await client.publish("counted", number);
  await new Promise((resolve) => setTimeout(resolve, 20));
}
