import type { Clock } from "../../lib/clock.js";

/** Called with the reply (from its xid on) to a request that was repeated while it was in progress. */
export type ReplyWaiter = (reply: Buffer) => void;

/**
 * The duplicate-request cache (RFC 1813 section 4.5): a non-idempotent call that is sent again is answered as the first time, not
 * done again. The key is made of client address, xid, program, procedure and a checksum of the arguments.
 */
export interface ReplyCache {
  /**
   * A call arrives.
   * @returns "new": do it and call `complete` or `abandon`; "waiting": it is in progress, `waiter` will be called; or the reply to repeat
   */
  begin(key: string, waiter: ReplyWaiter): "new" | "waiting" | Buffer;
  /** The call was answered with `reply`, which the cache keeps: a copy. */
  complete(key: string, reply: Buffer): void;
  /**
   * Calls that were answered before this server began, or by the partner. One that is known already stays as it is.
   * @param source  what they come from: those of its last time are forgotten
   */
  adopt(source: number, replies: AdoptedReplies): void;
  /**
   * The call ended without an answer worth keeping: it would be done again.
   * @param reply  what it was answered with; whoever asked meanwhile hears it, too. null: nothing
   */
  abandon(key: string, reply: Buffer | null): void;
}

export interface AdoptedReplies {
  readonly count: number;
  /** `ageMs`: before the call of `adopt`. */
  find(key: string): { readonly reply: Buffer; readonly ageMs: number } | null;
}

interface Adopted {
  readonly replies: AdoptedReplies;
  readonly sinceMs: number;
}

interface Entry {
  readonly key: string;
  abandoned: boolean;
  reply: Buffer | null;
  waiters: ReplyWaiter[] | null;
  readonly sinceMs: number;
}

/** Of one request. It is sent again over a new connection when the last one has ended: the newest are those that somebody listens to. */
const WAITERS_MAX = 8;
const EXPIRE_STEPS = 8;
const COMPACT_AT = 8192;

/** In memory, bounded in entries, bytes and age. The oldest leave first; those in progress are bounded by the connections' limits. */
export class MemoryReplyCache implements ReplyCache {
  readonly #entries = new Map<string, Entry>();
  /** By source. They bring their own bounds, but leave with their age. */
  readonly #adopted = new Map<number, Adopted>();
  /** In order of arrival, from #head on. A Map would iterate in this order too, but slowly over what has left at its front. */
  #order: Entry[] = [];
  #head = 0;
  #bytes = 0;

  constructor(
    private readonly clock: Clock,
    private readonly bounds: { entriesMax: number; bytesMax: number; ageMsMax: number },
  ) {}

  get size(): number {
    return this.#entries.size;
  }

  begin(key: string, waiter: ReplyWaiter): "new" | "waiting" | Buffer {
    const nowMs = this.clock.monotonicMs();
    this.#expire(nowMs);
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      const adopted = this.#adopted.size === 0 ? null : this.#findAdopted(key, nowMs);
      if (adopted !== null) return adopted;
      const made = { key, abandoned: false, reply: null, waiters: null, sinceMs: nowMs };
      this.#entries.set(key, made);
      this.#order.push(made);
      return "new";
    }
    if (entry.reply !== null) return entry.reply;
    entry.waiters ??= [];
    if (entry.waiters.push(waiter) > WAITERS_MAX) entry.waiters.shift();
    return "waiting";
  }

  complete(key: string, reply: Buffer): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.reply = reply;
    this.#bytes += reply.length;
    tell(entry, reply);
  }

  adopt(source: number, replies: AdoptedReplies): void {
    if (replies.count > 0) this.#adopted.set(source, { replies, sinceMs: this.clock.monotonicMs() });
  }

  #findAdopted(key: string, nowMs: number): Buffer | null {
    for (const [source, { replies, sinceMs }] of this.#adopted) {
      const leftMs = this.bounds.ageMsMax - (nowMs - sinceMs);
      if (leftMs < 0) this.#adopted.delete(source);
      const found = replies.find(key);
      if (found !== null && found.ageMs <= leftMs) return found.reply;
    }
    return null;
  }

  abandon(key: string, reply: Buffer | null): void {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.reply !== null) return;
    entry.abandoned = true;
    this.#entries.delete(key);
    if (reply !== null) tell(entry, reply);
  }

  /** Look at a few of the oldest; more leave than arrive, so the bounds hold. One that is still in progress moves to the young end. */
  #expire(nowMs: number): void {
    for (let steps = EXPIRE_STEPS; steps > 0; steps--) {
      const oldest = this.#order[this.#head];
      if (oldest === undefined) break;
      const full = this.#order.length - this.#head >= this.bounds.entriesMax || this.#bytes > this.bounds.bytesMax;
      if (!full && nowMs - oldest.sinceMs <= this.bounds.ageMsMax) break;
      this.#head++;
      this.#drop(oldest);
    }
    if (this.#head < COMPACT_AT) return;
    this.#order = this.#order.slice(this.#head);
    this.#head = 0;
  }

  #drop(oldest: Entry): void {
    if (oldest.abandoned) return;
    if (oldest.reply === null) {
      this.#order.push(oldest);
      return;
    }
    this.#bytes -= oldest.reply.length;
    this.#entries.delete(oldest.key);
  }
}

function tell(entry: Entry, reply: Buffer): void {
  const { waiters } = entry;
  entry.waiters = null;
  if (waiters !== null) for (const waiter of waiters) waiter(reply);
}
