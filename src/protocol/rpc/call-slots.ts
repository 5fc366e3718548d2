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
/** A line of news is looked through for what nobody wants any more when it is twice as long as after the last look, and not before it has this length. */
const SWEEP_LENGTH_MIN = 64;

interface News {
  readonly isWanted: () => boolean;
  /** @param begun  false: it is not wanted any more */
  readonly settle: (begun: boolean) => void;
}

interface Line {
  news: News[];
  sweepLength: number;
}

/**
 * Who may call out now. News wait in the order of their host, and hosts take turns, so that neither one client nor many that are gone keep the others from
 * hearing that a lock is theirs. An answer finds a place at once or is dropped.
 */
export class CallSlots {
  #running = 0;
  #answers = 0;
  #suspectsRunning = 0;
  readonly #runningOf = new Map<string, number>();
  /** Hosts that have news to wait for, in turn. As long as what is wanted, whatever a client asks for and gives up while it does not answer. */
  readonly #waiting = new Map<string, Line>();
  readonly #suspects = new Set<string>();

  constructor(private readonly bounds: SlotBounds) {}

  /** @returns for an answer false when there is no place; for news when it is their turn, or false when they are not wanted any more */
  async take(host: string, urgency: Urgency, isWanted: () => boolean = () => true): Promise<boolean> {
    if (urgency === "answer") {
      if (this.#answers >= this.bounds.answers || !this.#mayRun(host)) return false;
      this.#answers++;
      this.#begin(host);
      return true;
    }
    if (!this.#waiting.has(host) && this.#mayRun(host)) this.#begin(host);
    else return await this.#turn(host, isWanted);
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

  #turn(host: string, isWanted: () => boolean): Promise<boolean> {
    return new Promise((settle) => {
      const line = this.#waiting.get(host) ?? { news: [], sweepLength: SWEEP_LENGTH_MIN };
      this.#waiting.set(host, line);
      line.news.push({ isWanted, settle });
      if (line.news.length >= line.sweepLength) sweep(line);
    });
  }

  /** Hosts in turn: one that has begun a call goes to the end. */
  #wake(): void {
    for (const [host, line] of [...this.#waiting]) {
      if (this.#running >= this.bounds.total) return;
      if (!this.#mayRun(host)) continue;
      this.#waiting.delete(host);
      const first = firstWanted(line);
      if (first === null) continue;
      this.#begin(host);
      first.settle(true);
      if (line.news.length > 0) this.#waiting.set(host, line);
    }
  }
}

function sweep(line: Line): void {
  const { news } = line;
  line.news = [];
  for (const one of news) {
    if (one.isWanted()) line.news.push(one);
    else one.settle(false);
  }
  line.sweepLength = Math.max(SWEEP_LENGTH_MIN, 2 * line.news.length);
}

function firstWanted({ news }: Line): News | null {
  for (let first = news.shift(); first !== undefined; first = news.shift()) {
    if (first.isWanted()) return first;
    first.settle(false);
  }
  return null;
}
