// Errors of the client.

export const TIMEOUT = "timeout";
export const CLOSED = "closed";
export const CANCELLED = "cancelled";
export const QUEUE_FULL = "queue_full";
export const TOO_BIG = "too_big";
export const NOT_ENCODABLE = "not_encodable";
export const UNANSWERED = "unanswered";
export const NO_TOKEN = "no_token";
export const INVALID_CHANNEL = "invalid_channel"; // the hub has this code, too

/**
 * A call that was not carried out, or of which the client does not know whether it was.
 *
 * `code` is for programs: one of the hub's error codes (docs/protocol.md), or one of the constants above, which
 * docs/clients.md explains. `message` is for people.
 */
export class WsdError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = "WsdError";
    this.code = code;
  }
}
