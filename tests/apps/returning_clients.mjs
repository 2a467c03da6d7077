// Many clients that come back whenever they can; prints each of their states: node returning_clients.mjs URL COUNT TOKEN
import { WsdClient } from "./wsd-client.mjs";

const [, , url, count, token] = process.argv;
for (let number = 0; number < Number(count); number++) {
  const client = new WsdClient(url, { token });
  client.onstate = (state) => console.log(JSON.stringify({ number, state, at: Date.now() / 1000 }));
}
setInterval(() => {}, 1000);
