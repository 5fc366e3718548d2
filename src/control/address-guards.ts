import type { CancelTimer, Clock } from "../lib/clock.js";
import type { AddressGuard } from "./address-command.js";

export interface AddressGuardsParts {
  readonly clock: Clock;
  /** Addresses that this node has, and would keep if it were killed or stopped. */
  readonly hosts: () => Iterable<string>;
  readonly start: (host: string) => AddressGuard;
  /** A guard ended as soon as it had begun: the command knows none. Called once. */
  readonly onUseless: () => void;
}

const LIVE_MS = 500;
/** A guard that has ended before that could not begin. */
const USELESS_MS = 2 * LIVE_MS;
const AGAIN_MS = 60_000;

interface Kept {
  readonly guard: AddressGuard;
  readonly sinceMs: number;
}

/**
 * Each address that this node serves has a guard: a process of its own that gives the address up when this one is killed, stopped or hangs for longer than
 * a lease lasts. Nothing else on this machine would, and the partner serves there by then.
 */
export class AddressGuards {
  readonly #kept = new Map<string, Kept>();
  #cancel: CancelTimer = () => {};
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #told = false;

  constructor(private readonly parts: AddressGuardsParts) {}

  start(): void {
    this.tick();
    this.#cancel = this.parts.clock.after(LIVE_MS, () => this.start());
  }

  /** Every address is given up in order by now. */
  end(): void {
    this.#cancel();
    for (const { guard } of this.#kept.values()) guard.release();
    this.#kept.clear();
  }

  /** What happens when this process ends now is seen to. */
  guards(host: string): boolean {
    return this.#kept.get(host)?.guard.ended === false;
  }

  tick(): void {
    const hosts = new Set(this.parts.hosts());
    for (const [host, kept] of this.#kept) {
      if (kept.guard.ended) this.#forget(host, kept);
      else if (hosts.has(host)) kept.guard.live();
      else {
        kept.guard.release();
        this.#kept.delete(host);
      }
    }
    const nowMs = this.#nowMs();
    if (nowMs < this.#notBeforeMs) return;
    for (const host of hosts)
      if (!this.#kept.has(host)) this.#kept.set(host, { guard: this.parts.start(host), sinceMs: nowMs });
  }

  #forget(host: string, { sinceMs }: Kept): void {
    this.#kept.delete(host);
    if (this.#nowMs() - sinceMs > USELESS_MS) return;
    this.#notBeforeMs = this.#nowMs() + AGAIN_MS;
    if (!this.#told) this.parts.onUseless();
    this.#told = true;
  }

  #nowMs(): number {
    return this.parts.clock.monotonicMs();
  }
}
