// Settings of a client, and the times after which it acts. All times are in seconds, all sizes in bytes.

/** How long the application's token function may take. */
export const TOKEN_SECONDS = 30;

/**
 * The part of a token's time after which the client asks for the next one, and the part over which that is spread at
 * random: tokens of many clients may have been made together.
 */
export const REFRESH_FROM = 0.75;
export const REFRESH_SPREAD = 0.15;

/** A token that expires sooner is not replaced. The function may give one token again and again, until it expires. */
export const SHORTEST_TOKEN_SECONDS = 1;

/** How long the opening handshake may take, with the look-up of the name and TLS. */
export const HANDSHAKE_SECONDS = 15;

/** How long the welcome may take. The hub itself waits up to 20 s for a Redis that restarts. */
export const WELCOME_SECONDS = 30;

/** After this long without a word from the hub, while a request is unanswered, the client sends a ping. */
export const ANSWER_SECONDS = 10;

/** How long the hub may be silent after a ping, before the connection counts as lost. */
export const PONG_SECONDS = 15;

/** A timer that is later than this was not late by chance: the process was stopped, or the machine slept. */
export const LATE_SECONDS = 2;

/** After such a sleep, and when the network is back, the hub gets this long to show that the connection still lives. */
export const GRACE_SECONDS = 5;

/**
 * A client waits so often in a row without a sign of life. Timers of hidden pages are always late, which must not delay
 * every end for ever.
 */
export const MAX_GRACES = 3;

/** A connection that has lived this long ends a row of failures: the next pause is a short one again. */
export const LIVED_SECONDS = 10;

/** Limits of the longest pause before a new attempt. It doubles with each failure in a row. */
export const FIRST_PAUSE_SECONDS = 0.5;
export const LONGEST_PAUSE_SECONDS = 20;

/** A server that asks a client to come back later (Retry-After) is obeyed up to here. */
export const LONGEST_RETRY_AFTER_SECONDS = 120;

/** The same for a request that the hub could not carry out now. */
export const FIRST_RETRY_SECONDS = 1;
export const LONGEST_RETRY_SECONDS = 15;

/** At most so often the hub is told what the application has read. */
export const READ_SECONDS = 1;

/** A request whose connection is lost this many times before its answer is rejected: it may be the cause. */
export const MAX_TRIES = 5;

/** Requests that are on their way at the same time. */
export const MAX_IN_FLIGHT = 64;

/** Bytes of the requests that are on their way at the same time. One request may be larger. */
export const MAX_IN_FLIGHT_BYTES = 262_144;

/** The uids that are remembered to recognize a message that comes twice. */
export const MAX_UIDS = 5000;

/** What an application may set. */
export const SETTINGS = Object.freeze({
  requestTimeout: 60, // of a call that names none; null waits for ever
  pingInterval: 30, // a connection on which nothing comes for this long is tried with a ping
  maxWaiting: 10_000, // calls without an answer
  maxWaitingBytes: 8_388_608, // of these calls
  tokenIsFixed: true, // no function can give a new token, so an expired one ends the client
  hasName: false, // the application names the user, so the hub makes up no guest
});
