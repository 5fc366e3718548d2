import net from "node:net";
import type { ReachTarget } from "../config/schema.js";
import type { Reach } from "../ha/record.js";
import type { CancelTimer, Clock } from "../lib/clock.js";
import type { NewEvent } from "./event-log.js";

export interface ReachWatchParts {
  readonly clock: Clock;
  readonly targets: readonly ReachTarget[];
  /** Does somebody answer there? */
  readonly connect: (target: ReachTarget & { readonly port: number }) => Promise<boolean>;
  /** Asks targets without a port, round by round (AddressCommand.reach); null: there are none. */
  readonly ask:
    | ((targets: readonly string[], onRound: (answered: readonly string[]) => void, onEnd: () => void) => () => void)
    | null;
  readonly onStanding: (reach: Reach | null) => void;
  /** No target answers; called again each round, as long as it stays so. @param why  for people */
  readonly onCut: (why: string) => void;
  readonly onEvent: (event: NewEvent) => void;
}

const ROUND_MS = 1000;
/** A lost packet is none of our business; the partner hears of the second miss in a row. */
const MISSES_UNREACHED = 2;
/**
 * So many in a row of every target: cut off. When both nodes are, by the same switch, each knows by then that the other reaches nobody either: it has missed two
 * rounds (two seconds, and one more when they began late) and has said so with a heartbeat.
 */
const MISSES_CUT = 5;
/** When what asks has ended: it may be missing, or a helper is started anew. */
const ASK_AGAIN_MS = 5000;
const CONNECT_MS_MAX = 900;

interface Watched {
  readonly target: ReachTarget;
  /** It has answered since this node began: one that never does (a mistake, a firewall) says nothing about the network. */
  known: boolean;
  misses: number;
}

/**
 * Whether this node reaches anybody on the network where its clients are. A carrier says little: a switch behind it may fail, a port leave its VLAN. What is asked
 * is named in the configuration (`pair.reach`); the answer goes to the partner with the heartbeat, and both decide by it (PairAgent.cutOff).
 */
export class ReachWatch {
  readonly #watched: readonly Watched[];
  #cancel: CancelTimer = () => {};
  #cancelAsk: CancelTimer = () => {};
  #stopAsking = (): void => {};
  #ended = false;
  #cut = false;

  constructor(private readonly parts: ReachWatchParts) {
    this.#watched = parts.targets.map((target) => ({ target, known: false, misses: 0 }));
  }

  start(): void {
    this.#ask();
    this.#round();
  }

  end(): void {
    this.#ended = true;
    this.#cancel();
    this.#cancelAsk();
    this.#stopAsking();
  }

  /** Why clients hardly reach this node, or could not; empty when somebody answers, or nobody was asked. */
  get problems(): string[] {
    return this.#cut ? [cutText(this.#known())] : [];
  }

  /** Targets that say nothing about the network, a sentence each. */
  get warnings(): string[] {
    const silent = this.#watched.filter(({ known, misses }) => !known && misses >= MISSES_CUT);
    return silent.map(({ target }) => `${target.text}, which pair.reach names, has not answered since this node began`);
  }

  #round(): void {
    this.#cancel = this.parts.clock.after(ROUND_MS, () => this.#round());
    for (const watched of this.#watched) {
      const { port } = watched.target;
      if (port === null) continue;
      void this.parts
        .connect({ ...watched.target, port })
        .catch(() => false)
        .then((answered) => this.#note([watched], () => answered));
    }
  }

  /** All that are asked by the command are one round. */
  #ask(): void {
    const asked = this.#watched.filter(({ target }) => target.port === null);
    if (asked.length === 0 || this.parts.ask === null) return;
    const onEnd = (): void => {
      // Nobody asks them now: what they last said is no news.
      for (const watched of asked) Object.assign(watched, { known: false, misses: 0 });
      if (!this.#ended) this.#cancelAsk = this.parts.clock.after(ASK_AGAIN_MS, () => this.#ask());
    };
    const names = asked.map(({ target }) => target.text);
    const onRound = (answered: readonly string[]) => this.#note(asked, ({ target }) => answered.includes(target.text));
    this.#stopAsking = this.parts.ask(names, onRound, onEnd);
  }

  #note(asked: readonly Watched[], answered: (watched: Watched) => boolean): void {
    if (this.#ended) return;
    for (const watched of asked) {
      const answers = answered(watched);
      watched.known ||= answers;
      watched.misses = answers ? 0 : watched.misses + 1;
    }
    this.#judge();
  }

  #judge(): void {
    const known = this.#known();
    const reached = known.filter(({ misses }) => misses < MISSES_UNREACHED).length;
    this.parts.onStanding(known.length === 0 ? null : { reached, targets: known.length });
    if (known.length > 0 && known.every(({ misses }) => misses >= MISSES_CUT)) this.#tellCut(known);
    else if (this.#cut && (reached > 0 || known.length === 0)) this.#tellWhole();
  }

  #tellCut(known: readonly Watched[]): void {
    const why = cutText(known);
    if (!this.#cut) this.parts.onEvent({ severity: "error", kind: "network-cut", what: why });
    this.#cut = true;
    this.parts.onCut(why);
  }

  #tellWhole(): void {
    this.#cut = false;
    const what = "this node reaches somebody on its network again";
    this.parts.onEvent({ severity: "info", kind: "network-whole", what });
  }

  #known(): Watched[] {
    return this.#watched.filter(({ known }) => known);
  }
}

function cutText(known: readonly Watched[]): string {
  const names = known.map(({ target }) => target.text).join(", ");
  return `this node reaches nobody on its network (${names}): clients hardly reach it`;
}

/** A refusal is an answer, too. */
export function answersAt({ host, port }: { readonly host: string; readonly port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(CONNECT_MS_MAX, () => end(false));
    socket.once("connect", () => end(true));
    socket.once("error", ({ code }: NodeJS.ErrnoException) => end(code === "ECONNREFUSED" || code === "ECONNRESET"));
    socket.unref();
  });
}
