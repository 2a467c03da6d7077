// The end of a connection, and what follows from it.

export const ABNORMAL = 1006;
export const POLICY = 1008;
export const TOO_BIG_CODE = 1009;
export const IDLE = 4000;
export const TOKEN_EXPIRED = 4401;
const FIRST_FINAL = 4500;
const LAST_FINAL = 4999;

/** HTTP statuses that a client gets again when it tries again, unless the server changes. */
const PERMANENT_STATUSES = new Set([400, 401, 403, 404, 405, 410, 426]);

const WORDS = new Map([
  [1000, "the server closed the connection"],
  [1001, "the server went away"],
  [1005, "the server closed the connection"],
  [ABNORMAL, "the connection was lost"],
  [1011, "the server failed"],
  [1012, "the server restarts"],
  [1013, "the client read too slowly"],
  [IDLE, "the client was idle"],
  [TOKEN_EXPIRED, "the token has expired"],
]);

/**
 * The end of a WebSocket, or of an attempt to open one.
 *
 * `status` is that of an HTTP answer that refused the handshake, and `retryAfter` the seconds that the answer asks for.
 * `final` says that another attempt cannot do better, because the attempt was impossible.
 */
export class End {
  constructor({ code = ABNORMAL, reason = "", status = null, retryAfter = 0, final = false } = {}) {
    this.code = code;
    this.reason = reason;
    this.status = status;
    this.retryAfter = retryAfter;
    this.final = final;
  }

  /** True if the session is over, too, or goes on in another connection. */
  get endsSession() {
    return FIRST_FINAL <= this.code && this.code <= LAST_FINAL;
  }

  toString() {
    if (this.status !== null) return `the server refused the connection with HTTP ${this.status}`;
    return this.reason || (WORDS.get(this.code) ?? `the connection ended with ${this.code}`);
  }
}

/** What a client does after the end of a connection. */
export const Sequel = Object.freeze({
  COME_BACK: "come back",
  WAIT_FOR_A_CALL: "wait for a call",
  STAY_AWAY: "stay away",
});

/**
 * Return what a client does after an end.
 *
 * A client that was never welcomed stays away when the handshake was refused for good: its URL, its origin or its token
 * is wrong. One that was welcomed before comes back, because the server is probably being changed.
 */
export function sequel(end, { tokenIsFixed, wasWelcomed }) {
  if (end.final || end.code === POLICY || end.endsSession) return Sequel.STAY_AWAY;
  if (end.code === TOKEN_EXPIRED && tokenIsFixed) return Sequel.STAY_AWAY;
  if (PERMANENT_STATUSES.has(end.status) && !wasWelcomed) return Sequel.STAY_AWAY;
  return end.code === IDLE ? Sequel.WAIT_FOR_A_CALL : Sequel.COME_BACK;
}
