import type { Simulation } from "../simulation.js";
import { type Call, nextCall, type State } from "./client-model.js";
import { type FileServer, readResult, statusOf } from "./file-server.js";

const RETRY_MS = 100;
/** A repetition that was under way when the answer came arrives as late as this. */
const STRAY_MS_MAX = 1500;

export interface ClientParts {
  readonly simulation: Simulation;
  readonly number: number;
  /** Whoever has the service address now; null: nobody listens there. */
  readonly connect: () => Connection | null;
}

/** To one process: what was sent on it arrives there, or nowhere. */
export type Connection = (call: Call, answer: (reply: Buffer) => void) => void;

/** A model of an NFS client: one call at a time, sent again with the same xid until it is answered. */
export class Client {
  state: State = new Map();
  /** Under way, and unanswered since. */
  call: Call | null = null;
  sinceMs = 0;
  answered = 0;
  repeated = 0;
  /** It was found done by an owner that began later: from then on it is. */
  #done = false;
  #xid = 1;
  #going = true;
  #first: { readonly xid: number; readonly reply: Buffer } | null = null;
  readonly #parts: ClientParts;

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#later(this.#parts.simulation.random.below(50), () => this.#begin());
  }

  /** No new call after the one under way. */
  stop(): void {
    this.#going = false;
  }

  get idle(): boolean {
    return !this.#going && this.call === null;
  }

  #later(delayMs: number, action: () => void): void {
    this.#parts.simulation.after(delayMs, action);
  }

  #begin(): void {
    if (!this.#going) return;
    const { simulation, number } = this.#parts;
    this.call = nextCall(number, this.#xid++, this.state, simulation.random);
    this.sinceMs = simulation.nowMs;
    this.#done = false;
    this.#send(this.call, true);
  }

  #send(call: Call, first: boolean): void {
    if (this.call !== call) return;
    const { simulation, connect } = this.#parts;
    const { random } = simulation;
    if (!first) this.repeated++;
    const connection = connect();
    const answer = (reply: Buffer): void => this.#later(0.1 + random.below(10) / 10, () => this.#take(call, reply));
    const arrive = (): void => connection?.(call, answer);
    if (random.below(32) > 0) this.#later(0.1 + random.below(20) / 10, arrive);
    if (random.below(64) === 0) this.#later(random.below(STRAY_MS_MAX), arrive);
    this.#later(RETRY_MS, () => this.#send(call, false));
  }

  #take(call: Call, reply: Buffer): void {
    this.#mustBeTheSame(call, reply);
    if (this.call !== call) return;
    // The answer is lost now and then: the call is repeated, and must be answered in the same way.
    if (this.#parts.simulation.random.below(16) === 0) return;
    const status = statusOf(reply);
    if (status !== call.expected)
      throw new Error(`${told(call)} is answered ${status}, not ${call.expected}: ${reply}`);
    if (call.kind === "read" && status === "OK") this.#checkRead(call, reply);
    this.state = call.after;
    this.call = null;
    this.answered++;
    this.#later(30 + this.#parts.simulation.random.below(400), () => this.#begin());
  }

  #mustBeTheSame(call: Call, reply: Buffer): void {
    if (call.kind === "read") return;
    const first = this.#first;
    if (first?.xid !== call.xid) {
      // An answer to an older call: nobody waits for it, but it must not be the first one.
      if (this.call === call) this.#first = { xid: call.xid, reply };
      return;
    }
    if (!first.reply.equals(reply)) {
      throw new Error(`${told(call)} is answered in two ways: ${first.reply} and ${reply}`);
    }
  }

  #checkRead(call: Call, reply: Buffer): void {
    const entry = this.state.get(call.name);
    if (entry?.kind !== "file" || !readResult(reply).equals(entry.file.content)) {
      throw new Error(`${told(call)} returns what was not written`);
    }
  }

  /** A new owner has mounted the file system: everything that was answered is there, and what is under way is there whole or not at all. */
  check(server: FileServer): void {
    const { call } = this;
    const { number } = this.#parts;
    if (call === null || this.#done) {
      const state = call === null ? this.state : call.after;
      if (!server.agrees(number, state)) throw new Error(this.#lost(server, state));
      return;
    }
    if (server.agrees(number, this.state)) {
      const answeredOnce = this.#first?.xid === call.xid && call.expected === "OK" && call.after !== this.state;
      if (answeredOnce && !server.agrees(number, call.after))
        throw new Error(`${told(call)} was answered, and is undone`);
      return;
    }
    if (!server.agrees(number, call.after)) throw new Error(`${told(call)}: ${this.#lost(server, this.state)}`);
    this.#done = true;
  }

  #lost(server: FileServer, state: State): string {
    const { number } = this.#parts;
    const wanted = [...state].map(
      ([name, entry]) => `${name}:${entry.kind === "file" ? entry.file.content.length : "/"}`,
    );
    return `client ${number} finds ${server.names(number)}, and not ${wanted.join(" ")}`;
  }
}

function told({ client, xid, kind, name, to, data }: Call): string {
  return `${kind} ${name} ${to} (${data.length}) of client ${client}, xid ${xid}`;
}
