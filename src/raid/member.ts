import type { BlockDevice, TurnWatcher } from "../device/device.js";
import type { Clock } from "../lib/clock.js";
import { isStorageError, StorageError } from "../lib/errors.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { type CallKind, CallTimes, TimedCall } from "./call-times.js";
import type { DiskErrors } from "./contract.js";
import { ErrorBudget } from "./error-budget.js";
import type { Former } from "./former.js";
import type { LabelMember, LastLabel, MemberState } from "./label.js";
import { totalBytes } from "./pieces.js";
import { Latency } from "./slow-watch.js";

/** What a member tells its group, and needs of it. */
export interface MemberHooks {
  /** Called at once, before the failed operation settles. From then on the member is neither read nor written; its state says why. */
  readonly failed: (member: Member, error: unknown) => void;
  /** A read took long enough for the member to be looked at (slow-watch.ts). */
  readonly late: (member: Member) => void;
  /** It is asked for something: there is something to compare (aside-watch.ts). */
  readonly active?: (() => void) | undefined;
  /** A place could not be read, or held what was not written there. @param repaired  it was written again */
  readonly faulty: (member: Member, position: number, repaired: boolean) => void;
  readonly clock: Clock;
  /** Errors within a while that it may give before it is failed (error-budget.ts). */
  readonly errorsMax: number;
  /** Could the group do without one more member? One that gives errors is better than none. */
  readonly expendable: () => boolean;
  /** The disk that had its place before is gone, too. */
  readonly formerGone: (member: Member) => void;
}

/**
 * A disk in its role in a group. Writes never reject: a member that cannot be written is failed (its data would be old), and the
 * caller goes on without it; reads reject, and the caller finds the data elsewhere. Another disk in the same place, or the same one come
 * back, is another Member: what is late from the old one says nothing of the new one.
 */
export class Member {
  /** As the labels are to say it next, but for its state. */
  label: LabelMember;
  state: MemberState;
  reason: string | undefined;
  readonly errors: { -readonly [K in keyof DiskErrors]: DiskErrors[K] } = {
    read: 0,
    write: 0,
    checksum: 0,
    repaired: 0,
  };
  readonly latency = new Latency();
  /** Writes of every kind that have ended. One that is under way while the generation rises may come after it on the disk. */
  writeCount = 0;
  /** Answers much later than its neighbours: to be read only when there is no other way. */
  slow = false;
  /** Who had its place before, while that may still tell what is not here yet. */
  former: Former | null = null;
  /** How its label may stand that this life has written last: one that was not written to the end, or the one before. */
  lastLabels: readonly LastLabel[] = [];
  readonly times = { read: new CallTimes(), write: new CallTimes(), sync: new CallTimes() };
  #aside = false;
  /** Calls that the device has not answered. */
  #underWay = 0;
  /** Lets those go on who wait for such a call and need not, should the member be left out. */
  readonly #waiting = new Set<() => void>();
  #onQuiet: (() => void)[] = [];
  readonly #hooks: MemberHooks;
  readonly #budget: ErrorBudget;
  /** Operations counted at their end; a flush covers what was counted before it began. */
  #writes = 0;
  #directWrites = 0;
  #flushedWrites = 0;
  #flushing: Promise<void> | null = null;
  #flushingWrites = 0;

  constructor(
    readonly slot: number,
    label: LabelMember,
    readonly device: BlockDevice | null,
    hooks: MemberHooks,
  ) {
    this.label = label;
    this.state = label.state;
    this.#hooks = hooks;
    this.#budget = new ErrorBudget(hooks.errorsMax);
  }

  /** May be read: it has everything that was acknowledged. */
  get online(): boolean {
    return this.state === "online";
  }

  /** May be read, and answers in time. */
  get prompt(): boolean {
    return this.state === "online" && !this.slow;
  }

  /** Is not online yet, but the disk that was here before has all that it lacks: the group can bear the loss of another. */
  get covered(): boolean {
    return this.state === "rebuilding" && this.former?.whole === true;
  }

  /** Gets every write. */
  get takesWrites(): boolean {
    return this.state === "online" || this.state === "rebuilding";
  }

  /** Left out because it is slow. Its device stays open, for it may be taken back. */
  get isAside(): boolean {
    return this.#aside;
  }

  /**
   * From here on it is neither read nor written, as if it were lost, and nobody waits for it: what waits for a turn on the device is refused, and whoever waits
   * for a write or a flush under way goes on at once. The buffer of such a write may be used for something else before the device has read it: what then
   * comes to the disk lies where this member is not believed (marked regions, journal, bitmap, its own label), and comes there before it is taken back (`quiet`).
   * A read under way is waited for: its buffer is being written.
   */
  leaveOut(reason: string): void {
    this.state = "stale";
    this.reason = reason;
    this.slow = true;
    this.#aside = true;
    this.device?.abandonWaiting?.();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const go of waiting) go();
  }

  /** It will not come back by itself. */
  dismiss(state: MemberState, reason: string): void {
    this.#aside = false;
    this.state = state;
    this.reason = reason;
  }

  /** Everything that the device was asked for has ended. */
  quiet(): Promise<void> {
    if (this.#underWay === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onQuiet.push(resolve));
  }

  /** Ends with the call, or when the member is left out. */
  unlessLeftOut(call: () => Promise<void>): Promise<void> {
    return this.#letGo("sync", call);
  }

  /** The device is about to be asked. */
  #begin(kind: CallKind): TimedCall {
    this.#hooks.active?.();
    this.#underWay++;
    return new TimedCall(this.times[kind], this.#hooks.clock);
  }

  /** It has answered. @returns how long it took, once it had its turn */
  #end(pending: TimedCall): number {
    const tookMs = pending.end();
    if (--this.#underWay === 0 && this.#onQuiet.length > 0) for (const quiet of this.#onQuiet.splice(0)) quiet();
    return tookMs;
  }

  /** Whoever waits for such a call need not wait any longer once the member is left out. */
  #letGo(kind: CallKind, call: (turn: TurnWatcher) => Promise<void>): Promise<void> {
    const pending = this.#begin(kind);
    return new Promise((resolve, reject) => {
      this.#waiting.add(resolve);
      const end = (): void => {
        this.#waiting.delete(resolve);
        this.#end(pending);
      };
      call(pending).then(
        () => {
          end();
          resolve();
        },
        (error: Error) => {
          end();
          reject(error);
        },
      );
    });
  }

  #open(): BlockDevice {
    if (this.device === null || !this.takesWrites) {
      throw new StorageError("EIO", `disk #${this.label.number} is ${this.state}`, { disk: this.label.number });
    }
    return this.device;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  /** While it is being rebuilt: only what it has already, or the disk that was here before still has. */
  async readv(targets: readonly Buffer[], position: number): Promise<void> {
    if (!this.online) return this.#readFormer(targets, position);
    const device = this.#open();
    const pending = this.#begin("read");
    let tookMs = 0;
    try {
      await (targets.length === 1
        ? device.read(targets[0]!, position, pending)
        : device.readv(targets, position, pending));
    } catch (error) {
      // A bad sector is one thing, a disk that is gone another.
      if (isStorageError(error, "ENXIO")) this.fail(error);
      throw error;
    } finally {
      tookMs = this.#end(pending);
    }
    if (this.latency.add(tookMs)) this.#hooks.late(this);
    // Another operation may have found meanwhile that this member lost writes: then what was read proves nothing (I-2).
    if (!this.online) this.#refuseRead();
  }

  /**
   * Read into memory of its own, which nobody else has: unlike `readv` it goes on at once when the member is left out. For an assembly, which asks
   * all members the same.
   * @throws StorageError as `readv`
   */
  async fetch(byteCount: number, position: number): Promise<Buffer> {
    if (!this.online) this.#refuseRead();
    const device = this.#open();
    const target = Buffer.allocUnsafe(byteCount);
    try {
      await this.#letGo("read", (turn) => device.read(target, position, turn));
    } catch (error) {
      if (isStorageError(error, "ENXIO")) this.fail(error);
      throw error;
    }
    if (!this.online) this.#refuseRead();
    return target;
  }

  async #readFormer(targets: readonly Buffer[], position: number): Promise<void> {
    const { former } = this;
    if (former === null || this.state !== "rebuilding") this.#refuseRead();
    const device = this.#open();
    let at = position;
    try {
      for (const target of targets) {
        for (let from = 0; from < target.length; from += BLOCK_BYTES, at += BLOCK_BYTES) {
          await former.readBlock(target.subarray(from, from + BLOCK_BYTES), at, device);
        }
      }
    } catch (error) {
      if (isStorageError(error, "ENXIO")) this.#hooks.formerGone(this);
      throw error;
    }
    if (!this.takesWrites) this.#refuseRead();
  }

  /** Read a block to see whether the disk is there, and how fast. One that is gone fails by it; whether the block can be read matters to others. */
  async probe(position: number): Promise<void> {
    await this.read(Buffer.allocUnsafe(BLOCK_BYTES), position).catch(() => {});
  }

  #refuseRead(): never {
    throw new StorageError("EIO", `disk #${this.label.number} is ${this.state}`, { disk: this.label.number });
  }

  /** @param direct whether an LU's flush has to flush this write: false where the journal still holds the same bytes */
  async writev(sources: readonly Buffer[], position: number, direct: boolean): Promise<void> {
    if (!this.takesWrites) return;
    const { former } = this;
    const write = former?.begin(position, totalBytes(sources));
    let isThere = false;
    try {
      const device = this.#open();
      const run = (turn: TurnWatcher) =>
        sources.length === 1 ? device.write(sources[0]!, position, turn) : device.writev(sources, position, turn);
      await this.#letGo("write", run);
      isThere = this.takesWrites;
      this.#writes++;
      this.writeCount++;
      if (direct) this.#directWrites = this.#writes;
    } catch (error) {
      this.errors.write++;
      this.fail(error);
    } finally {
      if (write !== undefined) former?.end(write, isThere);
    }
  }

  /** @returns whether the range is durable on this member */
  async writeThrough(sources: readonly Buffer[], position: number): Promise<boolean> {
    if (!this.takesWrites) return false;
    const { former } = this;
    const write = former?.begin(position, totalBytes(sources));
    let isThere = false;
    try {
      const device = this.#open();
      await this.#letGo("sync", (turn) => device.writeThrough(sources, position, turn));
      isThere = this.takesWrites;
      this.writeCount++;
      return this.takesWrites;
    } catch (error) {
      this.errors.write++;
      this.fail(error);
      return false;
    } finally {
      if (write !== undefined) former?.end(write, isThere);
    }
  }

  get hasUnflushed(): boolean {
    return this.#flushedWrites < this.#writes;
  }

  /** Make every write that ended before this call durable; with `directOnly`, every direct one. Callers share device flushes. */
  async flush(directOnly: boolean): Promise<void> {
    const wanted = directOnly ? this.#directWrites : this.#writes;
    while (this.takesWrites && this.#flushedWrites < wanted) {
      await (this.#flushing ?? this.#startFlush());
    }
  }

  /** Flush also what an earlier process may have written and not flushed. */
  async flushOlder(): Promise<void> {
    if (this.takesWrites) await (this.#flushing ?? this.#startFlush());
  }

  #startFlush(): Promise<void> {
    this.#flushingWrites = this.#writes;
    this.#flushing = this.#flushDevice().finally(() => {
      this.#flushing = null;
    });
    return this.#flushing;
  }

  async #flushDevice(): Promise<void> {
    try {
      const device = this.#open();
      await this.#letGo("sync", (turn) => device.flush(turn));
      this.#flushedWrites = this.#flushingWrites;
    } catch (error) {
      // After a failed flush nobody knows what of the earlier writes is there (fsync errors are reported once).
      this.fail(error);
    }
  }

  /**
   * A block that could not be read (`read`) or was not what had been written (`checksum`), and is known again from elsewhere: it is written
   * anew in its place and read back. Nobody else may be writing it. A disk that needs this too often is failed.
   */
  async repair(good: Buffer, position: number, kind: "read" | "checksum"): Promise<void> {
    await this.writev([good], position, true);
    const back = Buffer.allocUnsafe(good.length);
    const holds = await this.read(back, position).then(
      () => back.equals(good),
      () => false,
    );
    this.#hooks.faulty(this, position, holds);
    this.count(kind, position, holds);
  }

  /**
   * A block could not be read, or was not what had been written. A disk that refuses too many is failed. One that has rotten blocks, which
   * checksums find and the others restore, is worth more than none: people are told, and decide.
   */
  count(kind: "read" | "checksum", position: number, repaired: boolean): void {
    this.errors[kind]++;
    if (repaired) this.errors.repaired++;
    if (kind === "read") this.#spend(position);
  }

  #spend(position: number): void {
    if (!this.#budget.spend(this.#hooks.clock.monotonicMs()) || !this.#hooks.expendable()) return;
    const { number } = this.label;
    this.fail(
      new StorageError("EIO", `too many read errors, the last one at byte ${position}`, {
        disk: number,
        errorsMax: this.#hooks.errorsMax,
        judged: true,
      }),
    );
  }

  fail(error: unknown): void {
    if (this.takesWrites) this.#hooks.failed(this, error);
  }
}
