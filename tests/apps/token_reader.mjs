// Reads with tokens in Node, and prints the state ten times a second: node token_reader.mjs URL SECRET SECONDS
import { WsdClient } from "./client.mjs";
import { readWithTokens } from "./read_with_tokens.mjs";

const [url, secret, seconds] = process.argv.slice(2);
readWithTokens(WsdClient, url, secret, Number(seconds));
setInterval(() => console.log(JSON.stringify(globalThis.state)), 100);
