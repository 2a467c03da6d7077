// What the state machine of a client wants done. The transport does it, in this order.

/**
 * Return the state of a client, as an application may show it.
 *
 * `connecting`: an attempt is under way. `open`: the hub has welcomed the client. `waiting`: the client will try again
 * in `retryIn` seconds, or with the next call if that is null. `closed`: the client does not come back by itself.
 *
 * `reason` is for people: why the last connection ended. `code` is the close code of the last connection (RFC 6455,
 * 7.4), `status` the HTTP status with which the last handshake was refused. `failures` counts the attempts in a row
 * that led to no connection that lived.
 */
export function newState(name, { reason = "", code = null, status = null, retryIn = null, failures = 0 } = {}) {
  return Object.freeze({ name, reason, code, status, retryIn, failures });
}

/** Ask the application for a token, and report it with `tokenReady` or `tokenFailed`. */
export const askToken = (attempt) => ({ type: "AskToken", attempt });

/** Ask the application for a token that replaces the one of the open connection. Reported as for `askToken`. */
export const askNewToken = (attempt) => ({ type: "AskNewToken", attempt });

/** Ask `source` for a token of a channel, and report it with `channelTokenReady` or `channelTokenFailed`. */
export const askChannelToken = (request, channel, source) => ({ type: "AskChannelToken", request, channel, source });

/** Open a WebSocket, and report `opened` or `ended`. `query` is added to the URL. */
export const connect = (attempt, query, token) => ({ type: "Connect", attempt, query, token });

/** Send a text on the WebSocket of this attempt. */
export const send = (attempt, text) => ({ type: "Send", attempt, text });

/** Close the WebSocket of this attempt without waiting for anything. Nothing more is heard of it. */
export const disconnect = (attempt, code) => ({ type: "Disconnect", attempt, code });

/** A call was carried out. */
export const resolve = (request, answer) => ({ type: "Resolve", request, answer });

/** A call was not carried out, or nobody knows whether it was. */
export const reject = (request, code, message) => ({ type: "Reject", request, code, message });

/** A message for the application, which it gets once. */
export const deliver = (message) => ({ type: "Deliver", message });

/** Messages of a channel were lost. */
export const gap = (channel, reason) => ({ type: "Gap", channel, reason });

/** Others have joined or left a channel. */
export const presenceChanged = (event) => ({ type: "PresenceChanged", event });

/** The client is no longer in a channel: the hub has taken it out, or refused it when the client came back. */
export const left = (channel, code, message) => ({ type: "Left", channel, code, message });

/** The client has another state now. */
export const stateChanged = (state) => ({ type: "StateChanged", state });
