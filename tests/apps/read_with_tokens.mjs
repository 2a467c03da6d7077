// Reads `numbers` with tokens that it signs itself, each of which expires after some seconds.
// What it sees is in `globalThis.state`.
export function readWithTokens(WsdClient, url, secret, seconds) {
  const state = globalThis.state = { heard: [], gaps: 0, asked: 0, codes: [] };
  const text = new TextEncoder();
  const encoded = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

  async function token() {
    state.asked++;
    const exp = Math.floor(Date.now() / 1000) + seconds;
    const parts = [{ alg: "HS256", typ: "JWT" }, { sub: "reader", name: `reader ${state.asked}`, exp }];
    const signed = parts.map((part) => encoded(text.encode(JSON.stringify(part)))).join(".");
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", text.encode(secret), algorithm, false, ["sign"]);
    return `${signed}.${encoded(await crypto.subtle.sign("HMAC", key, text.encode(signed)))}`;
  }

  const client = new WsdClient(url, { token });
  client.onmessage = ({ channel, data }) => { if (channel === "numbers") state.heard.push(data); };
  client.ongap = () => { state.gaps++; };
  client.onstate = (name, { code }) => {
    if (name === "open") state.name = client.welcome.username;
    if (name === "waiting") state.codes.push(code);
  };
  client.subscribe("numbers").then(() => { state.ready = true; });
}
