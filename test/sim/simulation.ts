import { createHash, type Hash } from "node:crypto";
import type { CancelTimer, Clock, Time } from "../../src/lib/clock.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { SeededRandom } from "../../src/lib/prng.js";

/** A run that does not come to an end: simulated time that nothing of ours should ever take. */
const STUCK_MS = 30 * 60_000;
/** Turns of the real event loop without any event to come: code that gives way to others needs a few. */
const IDLE_TURNS_MAX = 2000;

/** Code that gives way to others does so less often than this in a row. */
const QUIET_TURNS = 40;

interface Event {
  readonly atMs: number;
  /** Breaks ties: first made, first fired. */
  readonly order: number;
  action: (() => void) | null;
}

function turn(): Promise<void> {
  return nextTurn();
}

/** Real file operations under way: SQLite's scratch copy is filled through them. */
function realWork(): boolean {
  return process.getActiveResourcesInfo().some((name) => name === "FSReqPromise" || name === "CloseReq");
}

/**
 * Simulated time and everything that happens in it. One event at a time: a device request ends, or a timer fires; then all code that
 * waited for it runs until it waits for another one. Nothing depends on real time, so a seed is a run.
 *
 * The trace is a hash over every device request in the order in which they ended.
 */
export class Simulation {
  readonly random: SeededRandom;
  nowMs = 0;
  /** How far the wall clock has been set, all in all. */
  wallSetMs = 0;
  eventCount = 0;
  #heap: Event[] = [];
  #order = 0;
  readonly #trace: Hash = createHash("sha256");
  readonly #line = Buffer.alloc(40);

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  after(delayMs: number, action: () => void): CancelTimer {
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, action };
    this.#push(event);
    return () => {
      event.action = null;
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /** Let events happen until `work` has settled. @throws its error; Error when nothing can bring it to an end */
  async until<T>(work: Promise<T>, what: string): Promise<T> {
    let settled = false;
    const end = (): void => {
      settled = true;
    };
    work.then(end, end);
    const startMs = this.nowMs;
    for (let idle = 0; ; ) {
      await turn();
      if (settled) return await work;
      if (realWork()) continue;
      if (this.#fire()) idle = 0;
      else if (++idle > IDLE_TURNS_MAX) throw new Error(`${what}: waits for something that never comes`);
      if (this.nowMs - startMs > STUCK_MS) throw new Error(`${what}: takes more than half an hour of simulated time`);
    }
  }

  /** Let all code run that waits for nothing but its turn; nothing happens meanwhile. */
  async quiesce(): Promise<void> {
    for (let idle = 0; idle < QUIET_TURNS; idle = realWork() ? 0 : idle + 1) await turn();
  }

  #fire(): boolean {
    for (let event = this.#pop(); event !== null; event = this.#pop()) {
      if (event.action === null) continue;
      this.nowMs = event.atMs;
      this.eventCount++;
      event.action();
      return true;
    }
    return false;
  }

  /** @param checksum of what was moved; 0: nothing was */
  trace(operation: number, disk: number, position: number, byteCount: number, checksum: number): void {
    const line = this.#line;
    line.writeDoubleLE(this.nowMs, 0);
    line.writeDoubleLE(position, 8);
    line.writeUInt32LE(operation, 16);
    line.writeUInt32LE(disk, 20);
    line.writeUInt32LE(byteCount, 24);
    line.writeUInt32LE(checksum, 28);
    this.#trace.update(line);
  }

  /** 16 hexadecimal digits; the run may go on. */
  digest(): string {
    return this.#trace.copy().digest("hex").slice(0, 16);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | null {
    const heap = this.#heap;
    const first = heap[0];
    if (first === undefined) return null;
    const last = heap.pop()!;
    if (heap.length > 0) sink(heap, last);
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

function sink(heap: Event[], event: Event): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
    if (!isBefore(heap[child]!, event)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = event;
}

/** The clock of one life of the daemon: after `stop` its timers never fire. */
export class SimulatedClock implements Clock {
  readonly #simulation: Simulation;
  readonly #byWall: boolean;
  #stopped = false;

  /** @param byWall  intervals are measured by the wall clock, which somebody may set. Default: false */
  constructor(simulation: Simulation, byWall = false) {
    this.#simulation = simulation;
    this.#byWall = byWall;
  }

  monotonicMs(): number {
    const { nowMs, wallSetMs } = this.#simulation;
    return this.#byWall ? nowMs + wallSetMs : nowMs;
  }

  wallTime(): Time {
    const ms = 1_700_000_000_000 + this.#simulation.nowMs + this.#simulation.wallSetMs;
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanoseconds: Math.floor((ms - seconds * 1000) * 1e6) };
  }

  after(delayMs: number, action: () => void): CancelTimer {
    return this.#simulation.after(delayMs, () => {
      if (!this.#stopped) action();
    });
  }

  stop(): void {
    this.#stopped = true;
  }
}
