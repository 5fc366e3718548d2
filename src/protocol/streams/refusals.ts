import type { Clock } from "../../lib/clock.js";
import type { Logger } from "../../lib/log.js";

/**
 * Why a stream was not taken in, or ended.
 * connections: its address has as many as it may, all busy. strangers: a place was needed for somebody whom an export admits, or for a newer stranger.
 * idle: it made room for another client. record: more in one piece than it may send. incomplete: a request that did not come to its end.
 * unread: it did not take its replies.
 */
export const REFUSALS = ["connections", "strangers", "idle", "record", "incomplete", "unread"] as const;
export type RefusalKind = (typeof REFUSALS)[number];

export interface Refusal {
  readonly kind: RefusalKind;
  readonly address: string;
  /** Of the same kind and address since the last one that was told, this one too. */
  readonly count: number;
}

/** One line a kind and address is told in so long. */
const QUIET_MS = 60_000;
/** And so many in that time altogether: who sends from many addresses fills no log. */
const LINES_MAX = 16;
/** Kinds and addresses that are remembered; beyond them only the count goes on. */
const KNOWN_MAX = 512;

interface Known {
  toldMs: number;
  untold: number;
}

/** Counts what was refused, and tells some of it. */
export class Refusals {
  readonly counts: Record<RefusalKind, number>;
  readonly #known = new Map<string, Known>();
  #lines = 0;
  #linesSinceMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly onTold: (refusal: Refusal) => void,
  ) {
    this.counts = Object.fromEntries(REFUSALS.map((kind) => [kind, 0])) as Record<RefusalKind, number>;
  }

  note(kind: RefusalKind, address: string): void {
    this.counts[kind]++;
    const known = this.#of(kind, address);
    if (known === null) return;
    known.untold++;
    const nowMs = this.clock.monotonicMs();
    if (nowMs - known.toldMs < QUIET_MS || !this.#mayTell(nowMs)) return;
    const refusal = { kind, address, count: known.untold };
    known.toldMs = nowMs;
    known.untold = 0;
    this.log.warn({ ...refusal }, "client refused");
    this.onTold(refusal);
  }

  #mayTell(nowMs: number): boolean {
    if (nowMs - this.#linesSinceMs >= QUIET_MS) {
      this.#linesSinceMs = nowMs;
      this.#lines = 0;
    }
    return this.#lines++ < LINES_MAX;
  }

  #of(kind: RefusalKind, address: string): Known | null {
    const key = `${kind} ${address}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      if (this.#known.size >= KNOWN_MAX) this.#forget();
      if (this.#known.size >= KNOWN_MAX) return null;
      known = { toldMs: Number.NEGATIVE_INFINITY, untold: 0 };
      this.#known.set(key, known);
    }
    return known;
  }

  /** Those that have been quiet for long. */
  #forget(): void {
    const nowMs = this.clock.monotonicMs();
    for (const [key, { toldMs }] of this.#known) if (nowMs - toldMs >= QUIET_MS) this.#known.delete(key);
  }
}
