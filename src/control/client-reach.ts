import { isIPv4 } from "node:net";
import type { Reach } from "../ha/record.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import type { NewEvent } from "./event-log.js";

export interface ClientReachParts {
  readonly clock: Clock;
  /** Admitted clients that are connected or were a moment ago, and when each was last heard, by the clock. */
  readonly heard: () => Iterable<readonly [address: string, heardMs: number]>;
  /** Does somebody answer there? A refusal is an answer. */
  readonly connect: (place: { readonly host: string; readonly port: number }) => Promise<boolean>;
  /** Clients that fell silent for the partner, as it says now; empty when it says nothing. */
  readonly asked: () => readonly string[];
  /** Clients that have fallen silent for this node, for the partner to ask; empty: none. */
  readonly onSilent: (addresses: readonly string[]) => void;
  /** How many of those that fell silent for the partner answer this node; null: it does not ask. */
  readonly onStanding: (reach: Reach | null) => void;
  /** All have fallen silent, and none answers; called again each round. @param why  for people */
  readonly onCut: (why: string) => void;
  readonly onEvent: (event: NewEvent) => void;
}

const ROUND_MS = 1000;
/** Who says nothing for so long may have nothing to say: it is asked. */
const SILENT_MS = 1500;
/** Who was heard then, and was not found silent together with all others, is no sign of anything. */
const AT_WORK_MS = 10_000;
/** As for named targets (ReachWatch): so many rounds without an answer. */
const MISSES_CUT = 5;
/** Clients that are asked, and found out to answer; one heartbeat carries their addresses. */
const ASKED_MAX = 4;
/** Clients of which it is known whether they answer at all: a firewall may be in the way. */
const KNOWN_MAX = 64;
/** Clients that have been silent for so long are gone. */
const GONE_MS = 60_000;
/** One client that deceives both nodes moves nothing more often than that. */
const AGAIN_MS = 600_000;
/** The port mapper of an NFS client: open or refused, it answers. */
const PORT = 111;

interface Known {
  heardMs: number;
  /** It has answered once. */
  answers: boolean;
  misses: number;
}

/** All that answer and were at work have said nothing for a while. */
interface Silence {
  readonly sinceMs: number;
  /** The last one that moved anything was long ago. */
  readonly counts: boolean;
  told: boolean;
}

/**
 * For a pair whose configuration names nobody to ask (`pair.reach`): clients that were at work and fall silent all at once. They are asked, and when none
 * answers the partner asks them, too. When they answer there and not here, this node is cut off, and lets go. When they answer nowhere they are gone; when one
 * answers here they have nothing to say.
 */
export class ClientReach {
  readonly #known = new Map<string, Known>();
  /** Who fell silent for the partner, and whether it answered in the last round. */
  #asked = new Map<string, boolean>();
  #cancel: CancelTimer = () => {};
  #ended = false;
  #silence: Silence | null = null;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly parts: ClientReachParts) {}

  start(): void {
    this.#cancel = this.parts.clock.after(ROUND_MS, () => {
      this.#listen();
      this.#askSilent();
      this.#askForPartner();
      this.start();
    });
  }

  end(): void {
    this.#ended = true;
    this.#cancel();
  }

  #listen(): void {
    const nowMs = this.#nowMs();
    for (const [address, heardMs] of this.parts.heard()) {
      const known = this.#known.get(address);
      if (known !== undefined) known.heardMs = Math.max(known.heardMs, heardMs);
      else if (nowMs - heardMs < SILENT_MS && isOfNetwork(address)) this.#meet(address, heardMs);
    }
    if (this.#silence === null) this.#forget(nowMs - AT_WORK_MS);
    else if (nowMs - this.#silence.sinceMs >= GONE_MS) this.#broken(nowMs);
  }

  /** Once it is asked while it is at work: whether it would answer is known from then on. */
  #meet(address: string, heardMs: number): void {
    if (this.#known.size >= KNOWN_MAX || this.#answering().length >= ASKED_MAX) return;
    const known: Known = { heardMs, answers: false, misses: 0 };
    this.#known.set(address, known);
    this.#ask(address, (answered) => {
      known.answers = answered;
    });
  }

  #forget(beforeMs: number): void {
    for (const [address, { heardMs }] of this.#known) if (heardMs < beforeMs) this.#known.delete(address);
  }

  #askSilent(): void {
    const nowMs = this.#nowMs();
    const all = this.#answering();
    if (all.length === 0 || all.some(([, { heardMs }]) => nowMs - heardMs < SILENT_MS)) {
      if (this.#silence !== null) this.#broken(Number.NEGATIVE_INFINITY);
      return;
    }
    this.#silence ??= { sinceMs: nowMs, counts: nowMs - this.#toldMs >= AGAIN_MS, told: false };
    this.#judge(this.#silence, all);
    for (const [address, known] of all) {
      this.#ask(address, (answered) => {
        if (answered) this.#broken(nowMs);
        else known.misses++;
      });
    }
  }

  #judge(silence: Silence, all: readonly (readonly [string, Known])[]): void {
    const names = all.map(([address]) => address);
    const misses = Math.min(...all.map(([, known]) => known.misses));
    this.parts.onSilent(misses > 0 ? names : []);
    if (misses < MISSES_CUT || !silence.counts) return;
    const why = `all clients that were at work fell silent, and none of them answers (${names.join(", ")}): clients hardly reach this node`;
    if (!silence.told) this.parts.onEvent({ severity: "warning", kind: "clients-silent", what: why });
    silence.told = true;
    this.#toldMs = this.#nowMs();
    this.parts.onCut(why);
  }

  /** Somebody is heard or answers, or all are gone. @param beforeMs  whoever was not heard since then is not at work */
  #broken(beforeMs: number): void {
    this.#silence = null;
    this.#forget(beforeMs);
    for (const known of this.#known.values()) known.misses = 0;
    this.parts.onSilent([]);
  }

  #askForPartner(): void {
    const names = this.parts.asked().slice(0, ASKED_MAX);
    this.#asked = new Map(names.map((address) => [address, this.#asked.get(address) ?? false]));
    const reached = [...this.#asked.values()].filter(Boolean).length;
    this.parts.onStanding(names.length === 0 ? null : { reached, targets: names.length });
    for (const address of names) {
      this.#ask(address, (answered) => {
        if (this.#asked.has(address)) this.#asked.set(address, answered);
      });
    }
  }

  #answering(): (readonly [string, Known])[] {
    return [...this.#known].filter(([, { answers }]) => answers);
  }

  #ask(address: string, then: (answered: boolean) => void): void {
    void this.parts
      .connect({ host: address, port: PORT })
      .catch(() => false)
      .then((answered) => {
        if (!this.#ended) then(answered);
      });
  }

  #nowMs(): number {
    return this.parts.clock.monotonicMs();
  }
}

/** There is a network between it and this machine, and the partner knows it by the same address. */
function isOfNetwork(address: string): boolean {
  return isIPv4(address) ? !address.startsWith("127.") : address !== "::1" && !/^fe[89ab]/i.test(address);
}
