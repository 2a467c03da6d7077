/** A place in the history of a channel. A message has these fields, too. */
export interface Position {
  offset: number;
  epoch: string;
}

/** Who has sent a message. */
export interface Sender {
  user_id: string;
  username: string;
  worker_id: string;
}

/** A message of a channel. `broadcast` and `direct` are channels, too. */
export interface Message<Data = any> {
  type: "message";
  channel: string;
  data: Data;
  /** Set by the server. It is absent when the message was published over HTTP. */
  from?: Sender;
  /** Unique within the channel. Absent without a history. */
  uid?: string;
  /** Absent without a history, and until the message is stored. */
  offset?: number;
  epoch?: string;
}

/** Messages of a channel were lost. */
export interface Gap {
  channel: string;
  /** `expired`, `trimmed`, `epoch_changed`, `no_history`, `unavailable` or `slow_reader` (docs/protocol.md). */
  reason: string;
}

/** One connection of a user to a channel. */
export interface Member {
  user_id: string;
  username: string;
  node_id: string;
  worker_id: string;
}

/** Others have joined or left a channel that tells its members so. */
export interface PresenceEvent {
  type: "presence_changed";
  channel: string;
  joined: Member[];
  left: Member[];
  joined_count: number;
  left_count: number;
}

/** The client is no longer in a channel: the hub has taken it out, or not let it in when the client came back. */
export interface Left {
  channel: string;
  /**
   * An error code of the hub, its reason `server`, `forbidden`, `channel_full` or `token_needed` (docs/protocol.md), or `session_lost`:
   * the server had put the client into the channel, and the new session is not in it.
   */
  code: string;
  message: string;
}

/**
 * - `connecting`: an attempt is under way.
 * - `open`: the hub has welcomed the client.
 * - `waiting`: the client tries again in `retryIn` milliseconds, or with the next call if that is null.
 * - `closed`: the client does not come back by itself.
 */
export type StateName = "connecting" | "open" | "waiting" | "closed";

/** The state of a client, as an application may show it. */
export interface State {
  readonly name: StateName;
  /** For people: why the last connection ended. */
  readonly reason: string;
  /** The close code of the last connection. */
  readonly code: number | null;
  /** The HTTP status that refused the last handshake. Only the package ws tells it. */
  readonly status: number | null;
  /** Milliseconds until the next attempt. */
  readonly retryIn: number | null;
  /** Attempts in a row that led to no connection that lived. */
  readonly failures: number;
}

/** The first message of the hub on a connection. */
export interface Welcome {
  type: "welcome";
  session_id: string;
  user_id: string;
  username: string;
  worker_id: string;
  node_id: string;
  resumed: boolean;
  /** For how many seconds the client's token is valid. */
  token_expires_in?: number;
  [name: string]: unknown;
}

/** The answer to a message that was published. */
export interface Ack {
  type: "ack";
  id: number;
  offset?: number;
  epoch?: string;
  durable?: boolean;
}

/** The answer to a subscription. */
export interface Subscribed {
  channel: string;
  offset?: number;
  epoch?: string;
  recovered?: boolean;
  count?: number;
  reason?: string;
}

/** The answer to `presence`. */
export interface Presence {
  type: "presence";
  channel: string;
  /** All connections in the channel. */
  count: number;
  /** At most 1000 of them. */
  members: Member[];
}

/** The answer to `history`. */
export interface History<Data = any> {
  type: "history";
  channel: string;
  offset: number;
  epoch: string;
  messages: Message<Data>[];
  /** The epoch before, where the answer goes beyond what Redis keeps of an archived channel, and there is one. */
  previous?: string;
  /** True where messages may be missing: the archive does not answer, or has not written them yet. */
  incomplete?: boolean;
}

/** The answer to `delivered`. */
export interface Delivered {
  type: "delivered";
  channel: string;
  user_id: string;
  delivered: boolean;
  /** The offset up to which the user has read. */
  offset: number;
}

/** What every call takes. */
export interface CallOptions {
  /** Milliseconds after which the call is rejected with `timeout`; null waits for ever. */
  timeout?: number | null;
  /** Cancels the call, which is then rejected with `cancelled`. */
  signal?: AbortSignal | null;
}

/** A text, or a function that is asked for one and may be asynchronous. */
export type Token = string | null | (() => string | null | undefined | PromiseLike<string | null | undefined>);

export interface SubscribeOptions extends CallOptions {
  /** The newest messages of the history that come first. Of effect where the client is not in the channel yet. */
  last?: number;
  /**
   * A subscription token, or a function that returns one. It is called before each subscription: now, before the token
   * ends, when the hub says that it has ended, and after a reconnect without the channel.
   */
  token?: Token;
}

export interface HistoryOptions extends CallOptions {
  /** Messages after this offset, or before it with `reverse`. */
  since?: number;
  /** At most 500. */
  limit?: number;
  /** The newest first. */
  reverse?: boolean;
  /** An earlier epoch of an archived channel: the `previous` of another answer. */
  epoch?: string;
}

/** What hears from a channel. */
export interface ChannelHandler<Data = any> {
  onmessage?(message: Message<Data>): unknown;
  ongap?(gap: Gap): unknown;
  onpresence?(event: PresenceEvent): unknown;
}

/** The class of a WebSocket: that of the platform, or of the package ws. */
export type WebSocketClass = new (url: string, protocols: string[]) => {
  onopen: any;
  onmessage: any;
  onclose: any;
  onerror: any;
  send(text: string): void;
  close(code?: number): void;
};

export interface Options {
  /** A JSON Web Token, or a function that returns one. It is called before each connection, and before the token ends. */
  token?: Token;
  /** Who the client is, where the hub does not authenticate. Without it, the hub makes up a guest. */
  user_id?: string;
  username?: string;
  /** Milliseconds that a call waits for its answer unless it says otherwise: 60,000. null waits for ever. */
  requestTimeout?: number | null;
  /** Milliseconds of silence after which a connection is tried with a ping: 30,000. */
  pingInterval?: number;
  /** Calls that may wait for their answers: 10,000. */
  maxWaiting?: number;
  /** Bytes that these may have: 8 MiB. */
  maxWaitingBytes?: number;
  /** The class to use, where the platform has none. */
  WebSocket?: WebSocketClass;
  /** Everything else becomes a part of the URL's query. */
  [query: string]: unknown;
}

/**
 * A call that was not carried out, or of which the client does not know whether it was.
 *
 * `code` is one of the hub's error codes (docs/protocol.md), or `timeout`, `closed`, `cancelled`, `queue_full`,
 * `too_big`, `not_encodable`, `unanswered` or `no_token` (docs/clients.md).
 */
export class WsdError extends Error {
  constructor(code: string, message: string, options?: { cause?: unknown });
  readonly code: string;
}

/**
 * A client of the hub that loses no messages. It connects by itself, and comes back by itself.
 *
 * The promises of calls reject with `WsdError`. One that the caller ignores is no unhandled rejection.
 */
export class WsdClient {
  /** Throws TypeError for a URL or an option that cannot be, and where there is no WebSocket. */
  constructor(url: string | URL, options?: Options);

  onstate: ((name: StateName, state: State) => unknown) | null;
  /** Hears the messages of all channels, also of those with handlers of their own. So do `ongap` and `onpresence`. */
  onmessage: ((message: Message) => unknown) | null;
  ongap: ((gap: Gap) => unknown) | null;
  onpresence: ((event: PresenceEvent) => unknown) | null;
  onleft: ((left: Left) => unknown) | null;
  /** Is told what a callback has thrown. Without it, the console is. */
  onerror: ((error: unknown) => unknown) | null;

  readonly state: State;
  /** The latest welcome of the hub, which says who the client is; null before the first. */
  readonly welcome: Welcome | null;
  /** The calls that have no answer yet, and their bytes. */
  readonly waiting: { requests: number; bytes: number };

  /** Join a channel. Each call may add a handler. */
  subscribe<Data = any>(
    channel: string,
    handler?: ((message: Message<Data>) => unknown) | ChannelHandler<Data> | null,
    options?: SubscribeOptions | null,
  ): Promise<Subscribed>;
  /** Leave a channel. Nothing of it is delivered from now on, and its handlers are removed. */
  unsubscribe(channel: string, handler?: null, options?: CallOptions | null): Promise<Ack>;
  /** Remove one handler, and leave the channel with the last of them. Resolves with null where others are left. */
  unsubscribe<Data = any>(
    channel: string,
    handler: ((message: Message<Data>) => unknown) | ChannelHandler<Data>,
    options?: CallOptions | null,
  ): Promise<Ack | null>;

  /** Send a message to the members of a channel. The promise resolves once it is stored. */
  publish(channel: string, data: unknown, options?: CallOptions | null): Promise<Ack>;
  /** Send a message to all clients. */
  broadcast(data: unknown, options?: CallOptions | null): Promise<Ack>;
  /** Send a message to all connections of a user. */
  direct(userId: string, data: unknown, options?: CallOptions | null): Promise<Ack>;

  /** Ask who is in a channel. */
  presence(channel: string, options?: CallOptions | null): Promise<Presence>;
  /** Ask for messages of a channel. */
  history<Data = any>(channel: string, options?: HistoryOptions | null): Promise<History<Data>>;
  /** Ask whether a user has read a channel up to a position. For channels that keep receipts. */
  delivered(channel: string, userId: string, position: Position, options?: CallOptions | null): Promise<Delivered>;
  /**
   * Note what the user has read: up to a position, which may be a message, or all that was delivered.
   *
   * Throws WsdError for a position that is none.
   */
  markRead(channel: string, position?: Position | Message | null): void;

  /** Begin a new connection at once, whatever the state. Throws WsdError after `close`. */
  reconnect(): void;
  /** End the client and its session. Calls without an answer are rejected with `closed`. */
  close(): void;
  /** Cancel all calls that were never sent. Return how many they were. */
  discardWaiting(): number;
}
