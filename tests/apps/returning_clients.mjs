// Ten clients that come back whenever they can; prints each of their states.
import { WsdClient } from "./client.mjs";

for (let number = 0; number < 10; number++) {
  const client = new WsdClient(process.argv[2], { user_id: `returner-${number}` });
  client.onstate = (state) => console.log(JSON.stringify({ number, state }));
}
setInterval(() => {}, 1000);
