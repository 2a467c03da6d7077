// The membership of a client in one channel: what the application wants, and where the hub has the client.

/**
 * Membership is what the application said last, whatever the hub remembers of the session.
 *
 * Requests are answered in the order in which they are sent. Where `settled` and `inside` would differ in the end, the
 * client sends one more request by itself: `repair` says which.
 */
export class Membership {
  settled = false; // the client belongs in the channel, as the last call has it that was answered, or as the hub
  byHub = false; // it was the hub that settled it: no call of the application has asked for the channel
  settledBy = 0; // the id of that call; answers to earlier ones settle nothing any more
  inside = false; // the hub has the client in the channel, or may have it there
  isKept = false; // the hub does not let the client go, until the next connection at least
  token = null; // that the application gave to `subscribe`: a text, or what it is asked with for one
  heard; // messages are delivered: from the answer to the last `subscribe` to the next `unsubscribe`
  pending = new Map(); // by id, in the order of sending: `joins`, and `isCall` while the application waits for the answer

  constructor(heard) {
    this.heard = heard;
  }

  /** True if the application wants to be in the channel, as it said last. */
  get wanted() {
    let last = 0;
    for (const [id, { isCall }] of this.pending) if (isCall) last = Math.max(last, id);
    return last > this.settledBy ? this.pending.get(last).joins : this.settled;
  }

  /** True if nothing is left to remember. */
  get isOver() {
    return !(this.pending.size || this.settled || this.inside);
  }

  /** Note a call of the application. */
  called(id, joins) {
    this.pending.set(id, { joins, isCall: true });
    this.#look();
  }

  /** Note a request that the client sends for itself. */
  asked(id, joins) {
    this.pending.set(id, { joins, isCall: false });
  }

  /** Note that the hub has made the client a member. What comes from now on belongs to this membership. */
  entered() {
    this.heard = true;
    this.#look();
  }

  /** Note that the hub has made the client a member by itself. A request to leave that waits comes after that. */
  putIn() {
    this.inside = this.heard = true;
    if (!this.settled && [...this.pending.values()].every(({ joins }) => joins)) this.settled = this.byHub = true;
    this.#look();
  }

  /** Note that the hub has carried out a request. */
  done(id) {
    const { joins, isCall } = this.#take(id);
    this.inside = joins;
    this.isKept &&= joins;
    if (isCall) this.#settle(id, joins);
    if (joins) this.heard = true;
    this.#look();
  }

  /**
   * Note that the hub has refused a request. Return whether the client has lost its place in the channel by that.
   *
   * Whoever wanted to leave has left, whatever the hub says.
   */
  refused(id) {
    const { joins, isCall } = this.#take(id);
    if (!joins) this.isKept = true;
    if (isCall && !joins) this.#settle(id, false);
    const isLost = joins && !isCall && this.settled && !this.inside && !this.pending.size;
    if (isLost) this.settled = false;
    this.#look();
    return isLost;
  }

  /**
   * Note that the hub has taken the client out of the channel. Return whether the client has lost its place so.
   *
   * `forGood`: false where the client may come in again with another token. The application must have asked for the
   * channel then.
   */
  takenOut(forGood) {
    this.inside = false;
    return forGood || this.byHub ? this.#lost() : false;
  }

  /**
   * Note that nobody waits any more for the answer to a request, which is answered only if `isOnItsWay`.
   *
   * A subscription that is given up never was. Whoever wanted to leave has left, also after earlier calls to join that
   * have no answer yet.
   */
  givenUp(id, { wasSent, isOnItsWay }) {
    const given = this.pending.get(id);
    if (given.isCall && !given.joins) this.#settle(id, false);
    given.isCall = false;
    if (!isOnItsWay) {
      this.pending.delete(id);
      this.inside ||= given.joins && wasSent;
    }
    this.#look();
  }

  /**
   * Note whether a new connection is in the channel. Return whether the client has lost its place so.
   *
   * Only the hub can put the client again where the application has not asked to be.
   */
  welcomed(inside) {
    this.inside = inside;
    this.isKept = false;
    const isLost = this.byHub && !inside ? this.#lost() : false;
    this.heard ||= this.settled;
    this.#look();
    return isLost;
  }

  /** Return the request that brings the client where it belongs, or null if nothing is to do now. */
  repair() {
    if (this.isKept && !this.settled) return null;
    let { inside } = this;
    for (const { joins, isCall } of this.pending.values()) {
      if (isCall) return null;
      inside = joins; // the hub is expected to carry it out
    }
    if (inside === this.settled) return null;
    return this.settled ? "subscribe" : "unsubscribe";
  }

  #take(id) {
    const given = this.pending.get(id);
    this.pending.delete(id);
    return given;
  }

  #settle(id, joins) {
    if (id > this.settledBy) {
      this.settled = joins;
      this.settledBy = id;
      this.byHub = false;
    }
  }

  /** Settle that the client is not to be in the channel. Return true unless that is so already, or calls wait. */
  #lost() {
    const isLost = this.settled && ![...this.pending.values()].some(({ isCall }) => isCall);
    this.settled = this.byHub = false;
    this.#look();
    return isLost;
  }

  /** Stop hearing a channel that is not wanted, or left before it is entered again. */
  #look() {
    this.heard = this.heard && this.wanted && ![...this.pending.values()].some(({ joins }) => !joins);
  }
}
