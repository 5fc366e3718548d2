import { must } from "../lib/assert.js";
import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { BlockDevice, TurnWatcher } from "./device.js";
import { closedError } from "./range.js";

/** A call that takes longer has a disk behind it that holds its thread; one with seeks takes some tens of milliseconds under load. */
const LATE_MS = 100;
/** A disk whose last answer was late is believed to be well again when one takes less than this. */
const IN_TIME_MS = 50;
/** Of the reserved area of one disk. */
const CONTROL_CALLS_MAX = 2;
/** Where heartbeats depend on the threads: so many disks may become slow at the same moment, each with all of its calls under way, and threads are left. */
const SLOW_DISKS = 3;
/** While all disks are late, so many threads are nobody's. */
const SPARE_THREADS = 2;

/** data: everything that a group does with its members. control: heartbeat, lease, labels that are looked at: never behind data. */
export type LaneKind = "data" | "control";

interface Waiter {
  readonly owner: object;
  readonly turn: TurnWatcher | undefined;
  readonly go: (call: Call) => void;
  readonly refuse: (error: StorageError) => void;
}

/** A call under way, between those that began before and after it. */
interface Call {
  readonly startedMs: number;
  before: Call | null;
  after: Call | null;
}

/**
 * The calls to one disk, whoever has it open: so many at once, the others in the order in which they came. A waiter holds a buffer of its own, so that their
 * number is bounded by whoever gives buffers out.
 */
class Lane {
  /** Devices that go by it. */
  users = 0;
  #oldest: Call | null = null;
  #newest: Call | null = null;
  #underWay = 0;
  /** The last call that was late, or in time, was late. */
  #answersLate = false;
  readonly #waiting: Waiter[] = [];

  /**
   * @param callsMax  at once
   * @param lateCallsMax  at once while one of them is late
   */
  constructor(
    private readonly clock: Clock,
    private readonly callsMax: () => number,
    private readonly lateCallsMax: () => number,
  ) {}

  get isLate(): boolean {
    return this.#oldest !== null && this.#oldest.startedMs < this.clock.monotonicMs() - LATE_MS;
  }

  #mayBegin(): boolean {
    const callsMax = this.callsMax();
    if (this.#underWay >= callsMax) return false;
    // Where nothing else bounds them, all that wait for a slow disk would begin at the moment when the last late call has ended.
    const isSlow = this.isLate || (this.#answersLate && callsMax === Number.POSITIVE_INFINITY);
    return this.#underWay < this.lateCallsMax() || !isSlow;
  }

  /** @returns the call, to be given back by `end`; null: it has to wait */
  tryBegin(): Call | null {
    return this.#waiting.length === 0 && this.#mayBegin() ? this.#begin() : null;
  }

  #begin(): Call {
    const call: Call = { startedMs: this.clock.monotonicMs(), before: this.#newest, after: null };
    if (call.before === null) this.#oldest = call;
    else call.before.after = call;
    this.#newest = call;
    this.#underWay++;
    return call;
  }

  /** In its turn. @throws StorageError when the owner gave up waiting */
  wait(owner: object, turn?: TurnWatcher): Promise<Call> {
    return new Promise((go, refuse) => this.#waiting.push({ owner, turn, go, refuse }));
  }

  end({ startedMs, before, after }: Call): void {
    const tookMs = this.clock.monotonicMs() - startedMs;
    if (tookMs > LATE_MS) this.#answersLate = true;
    else if (tookMs < IN_TIME_MS) this.#answersLate = false;
    if (before === null) this.#oldest = after;
    else before.after = after;
    if (after === null) this.#newest = before;
    else after.before = before;
    this.#underWay--;
    while (this.#waiting.length > 0 && this.#mayBegin()) this.#beginNext();
  }

  #beginNext(): void {
    const { turn, go } = must(this.#waiting.shift(), "one waits");
    turn?.begins();
    go(this.#begin());
  }

  refuse(owner: object, error: StorageError): void {
    const refused = this.#waiting.filter((waiter) => waiter.owner === owner);
    if (refused.length === 0) return;
    const others = this.#waiting.filter((waiter) => waiter.owner !== owner);
    this.#waiting.splice(0, this.#waiting.length, ...others);
    for (const waiter of refused) waiter.refuse(error);
  }
}

/**
 * Shares libuv's threads out among disks. A call to a disk holds its thread until the kernel answers, so a disk that is slow would sooner or later
 * stand in all of them, and everything else with it: other disks, heartbeats, the state directory (native-notes/thread-pool.md).
 *
 * - Of one disk at most `threads / (SLOW_DISKS + 1)` data calls are under way, or its even share when that is more; and no more than its even share while
 *   one of them is late. Without control lanes, when no heartbeat depends on a free thread, only the latter, and until an answer comes in time: what waits here is
 *   not handed to a thread before a turn of the event loop, which costs a seventh of the rate of large reads (native-notes/thread-pool.md).
 * - Calls to the reserved area have a lane of their own: they never wait behind data.
 */
export class DiskLanes {
  readonly #data = new Map<string, Lane>();
  readonly #control = new Map<string, Lane>();

  /** @param threads  of the process's pool */
  constructor(
    private readonly clock: Clock,
    private readonly threads: number,
  ) {}

  /** `device` by the lane of the disk at its path; closing it closes the device. The lane goes with the last one. */
  over(device: BlockDevice, kind: LaneKind): BlockDevice {
    const lanes = kind === "data" ? this.#data : this.#control;
    const path = device.name;
    const lane = lanes.get(path) ?? (kind === "data" ? this.#dataLane() : this.#controlLane());
    lanes.set(path, lane);
    lane.users++;
    return new LaneDevice(device, lane, () => {
      if (--lane.users === 0) lanes.delete(path);
    });
  }

  /** A disk holds threads now: what this process has asked it for would keep the process from ending. */
  get isHeld(): boolean {
    for (const lanes of [this.#data, this.#control]) for (const lane of lanes.values()) if (lane.isLate) return true;
    return false;
  }

  /** Disks whose data goes by here. */
  get diskCount(): number {
    return this.#data.size;
  }

  #controlLane(): Lane {
    return new Lane(
      this.clock,
      () => CONTROL_CALLS_MAX,
      () => 1,
    );
  }

  #dataLane(): Lane {
    const quarter = Math.max(1, Math.floor(this.threads / (SLOW_DISKS + 1)));
    const share = (): number => Math.max(1, Math.floor((this.threads - SPARE_THREADS) / Math.max(1, this.diskCount)));
    const callsMax = (): number => (this.#control.size === 0 ? Number.POSITIVE_INFINITY : Math.max(quarter, share()));
    return new Lane(this.clock, callsMax, share);
  }
}

/** A device whose calls go by the lane of its disk. */
class LaneDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly alignmentBytes: number;
  #closed = false;
  #underWay = 0;

  constructor(
    private readonly below: BlockDevice,
    private readonly lane: Lane,
    private readonly onClosed: () => void,
  ) {
    this.name = below.name;
    this.sizeBytes = below.sizeBytes;
    this.readOnly = below.readOnly;
    this.alignmentBytes = below.alignmentBytes;
  }

  read(target: Buffer, position: number, turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(position, turn, () => this.below.read(target, position));
  }

  readv(targets: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(position, turn, () => this.below.readv(targets, position));
  }

  write(source: Buffer, position: number, turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(position, turn, () => this.below.write(source, position));
  }

  writev(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(position, turn, () => this.below.writev(sources, position));
  }

  writeThrough(sources: readonly Buffer[], position: number, turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(position, turn, () => this.below.writeThrough(sources, position));
  }

  flush(turn?: TurnWatcher): Promise<void> {
    return this.#inTurn(0, turn, () => this.below.flush());
  }

  /** What waits is refused now; what is under way ends first, as the device says. */
  async close(): Promise<void> {
    const first = !this.#closed;
    this.#closed = true;
    this.lane.refuse(this, closedError(this.name, 0));
    try {
      await this.below.close();
    } finally {
      if (first) this.onClosed();
    }
  }

  abandonWaiting(): void {
    this.lane.refuse(this, new StorageError("EIO", `${this.name} is not waited for any more`, { device: this.name }));
  }

  async #inTurn(position: number, turn: TurnWatcher | undefined, call: () => Promise<void>): Promise<void> {
    if (this.#closed) throw closedError(this.name, position);
    const begun = this.lane.tryBegin() ?? (await this.#wait(turn));
    this.#underWay++;
    try {
      await call();
    } finally {
      this.#underWay--;
      this.lane.end(begun);
    }
  }

  /** How slow the disk is, calls tell that are under way. When all of them are somebody else's, only the time that is spent here tells. */
  #wait(turn: TurnWatcher | undefined): Promise<Call> {
    if (turn === undefined) return this.lane.wait(this);
    if (this.#underWay > 0) turn.waits();
    return this.lane.wait(this, turn);
  }
}
