/** What a call is for: news that a client waits for, or an answer that it may ask for again. */
export type Urgency = "news" | "answer";

/** Calls under way to other hosts at once, each with a socket. */
export interface SlotBounds {
  readonly total: number;
  /** Of them for answers; the others are kept for news. */
  readonly answers: number;
  readonly ofHost: number;
  /** For hosts whose last call failed: those that answer do not wait for those that do not. */
  readonly suspects: number;
}

const SUSPECTS_KEPT_MAX = 4096;

/**
 * Who may call out now. News wait in the order of their host, and hosts take turns, so that neither one client nor many that are gone keep the others from
 * hearing that a lock is theirs. An answer finds a place at once or is dropped.
 */
export class CallSlots {
  #running = 0;
  #answers = 0;
  #suspectsRunning = 0;
  readonly #runningOf = new Map<string, number>();
  /** Hosts that have news to wait for, in turn. */
  readonly #waiting = new Map<string, (() => void)[]>();
  readonly #suspects = new Set<string>();

  constructor(private readonly bounds: SlotBounds) {}

  /** @returns false when there is none for an answer; for news when it is their turn */
  async take(host: string, urgency: Urgency): Promise<boolean> {
    if (urgency === "answer") {
      if (this.#answers >= this.bounds.answers || !this.#mayRun(host)) return false;
      this.#answers++;
      this.#begin(host);
      return true;
    }
    if (!this.#waiting.has(host) && this.#mayRun(host)) this.#begin(host);
    else await this.#turn(host);
    return true;
  }

  release(host: string, urgency: Urgency, wasAnswered: boolean): void {
    this.#running--;
    if (urgency === "answer") this.#answers--;
    const left = (this.#runningOf.get(host) ?? 1) - 1;
    if (left === 0) this.#runningOf.delete(host);
    else this.#runningOf.set(host, left);
    this.#judge(host, wasAnswered, left + 1);
    this.#wake();
  }

  /** @param running  calls of the host that counted as a suspect's, or did not */
  #judge(host: string, wasAnswered: boolean, running: number): void {
    const wasSuspect = this.#suspects.has(host);
    if (wasAnswered) this.#suspects.delete(host);
    else if (this.#suspects.size < SUSPECTS_KEPT_MAX) this.#suspects.add(host);
    const isSuspect = this.#suspects.has(host);
    this.#suspectsRunning += (isSuspect ? running - 1 : 0) - (wasSuspect ? running : 0);
  }

  #mayRun(host: string): boolean {
    const { total, ofHost, suspects } = this.bounds;
    const own = this.#runningOf.get(host) ?? 0;
    if (this.#running >= total || own >= ofHost) return false;
    return !this.#suspects.has(host) || (own === 0 && this.#suspectsRunning < suspects);
  }

  #begin(host: string): void {
    this.#running++;
    this.#runningOf.set(host, (this.#runningOf.get(host) ?? 0) + 1);
    if (this.#suspects.has(host)) this.#suspectsRunning++;
  }

  #turn(host: string): Promise<void> {
    return new Promise((resolve) => {
      const line = this.#waiting.get(host);
      if (line === undefined) this.#waiting.set(host, [resolve]);
      else line.push(resolve);
    });
  }

  /** Hosts in turn: one that has begun a call goes to the end. */
  #wake(): void {
    for (const [host, line] of [...this.#waiting]) {
      if (this.#running >= this.bounds.total) return;
      if (!this.#mayRun(host)) continue;
      this.#waiting.delete(host);
      this.#begin(host);
      line.shift()?.();
      if (line.length > 0) this.#waiting.set(host, line);
    }
  }
}
