import type { BlockDevice } from "../../device/device.js";
import { must } from "../../lib/assert.js";
import { type Errno, isStorageError, messageOf, StorageError } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import { Mutex } from "../../lib/mutex.js";
import { nextTurn } from "../../lib/next-turn.js";
import { SharedFlush } from "../../lib/shared-flush.js";
import { BLOCK_BYTES, KIB, type LuByte } from "../../lib/units.js";
import type { LogicalUnit, LuDescription } from "../../lu/lu.js";
import { RangeGate } from "../../raid/range-gate.js";
import { type PartitionHeader, readHeaderPair, writeHeader } from "./header.js";
import { NODE_NAMES, PARTITION, partitionStart } from "./layout.js";
import type { SharedMember } from "./member.js";
import { type Standing, standingOf } from "./standing.js";

/**
 * current: has everything, is written, and may be read. rebuilding: is written, read by nobody until it has everything.
 * out: missed writes, or is not there.
 */
export type CopyState = "current" | "rebuilding" | "out";

export interface PartitionParts {
  readonly groupUuid: string;
  readonly groupName: string;
  /** 0-based: 0 is chn1. */
  readonly index: number;
  readonly partitionBytes: number;
  /** By slot. Their devices come and go. */
  readonly members: readonly SharedMember[];
  readonly log: Logger;
  /** A member gave an error that it must not give again: it is let go by the group. */
  readonly onMemberError: (member: SharedMember, error: unknown) => void;
  readonly onClosed: (lu: PartitionLu) => void;
}

export interface WriterOptions {
  /** Who writes: the partition's own node, or the one that has taken it over. */
  readonly writer: string;
  readonly epoch: number;
  /** Asked before each write and flush; throws ESTALE when this node has lost its right. */
  readonly guard?: (() => void) | undefined;
  /** Of copies that were used apart, believe the newest. */
  readonly force?: boolean | undefined;
}

/** What an open for writing adds to the highest generation found: more than a change of copies, so that one that a crash cut short is older. */
const OPEN_STEP = 2;
/** Compared and copied at once; a client's write to these bytes waits that long. */
const COPY_BYTES = 256 * KIB;

/**
 * A partition of a shared group as an LU: an address range that lies on every member, with at most one writer.
 *
 * A write is acknowledged when every copy in use has it, or when those that failed are excluded by a header that is durable on all that
 * remain. So a copy that missed an acknowledged write has a lower generation than the others (I-2), whatever happened to its disk.
 *
 *     current    -> out         a write failed: header (generation + 1, without it) on the remaining, then the write is acknowledged
 *     out        -> rebuilding  its disk is back: its own header stops naming itself, then it takes every write, and is copied
 *     rebuilding -> current     everything is equal and flushed: header (generation + 1, with it), on the old copies first
 *
 * After an unclean stop copies may differ in what was not flushed. The first current copy is read, and the others are made equal in the background.
 */
export class PartitionLu implements LogicalUnit {
  readonly description: LuDescription;
  readonly sizeBytes: number;
  readonly stripeBytes = 64 * KIB;
  readonly #parts: PartitionParts;
  readonly #start: number;
  readonly #states: CopyState[];
  readonly #gate = new RangeGate();
  readonly #headers = new Mutex();
  readonly #flushes = new SharedFlush(() => this.#onAll((device) => device.flush()));
  #standing: Standing = standingOf([]);
  #writer: WriterOptions | null = null;
  #sequence = 0;
  /** What the headers of the current copies carry; a copy that is disowned gets the same, so that it never looks newer than they do. */
  #stamp = { generation: 0, epoch: 0 };
  /** The current copies are equal, as far as is known. */
  #level = true;
  #failure: StorageError | null = null;
  #closed = false;
  /** Since the generation rose last. */
  #written = false;
  #copying: Promise<void> | null = null;

  constructor(parts: PartitionParts) {
    this.#parts = parts;
    this.#start = partitionStart(parts.index, parts.partitionBytes);
    this.#states = parts.members.map(() => "out" as const);
    this.sizeBytes = parts.partitionBytes - PARTITION.lu;
    this.description = {
      number: parts.index + 1,
      uuid: parts.groupUuid,
      name: `${parts.groupName}.${NODE_NAMES[parts.index]}`,
      level: 1,
      sizeBytes: this.sizeBytes,
      groupUuid: parts.groupUuid,
      width: parts.members.length,
    };
  }

  get node(): string {
    return must(NODE_NAMES[this.#parts.index], "a partition has a node");
  }

  get writable(): boolean {
    return this.#writer !== null && this.#failure === null && !this.#closed;
  }

  /** By slot, as this node sees them. */
  get copies(): readonly CopyState[] {
    return this.#states;
  }

  /** Of the header that counts; rises with every change of the current copies. */
  get generation(): number {
    return this.#writer === null ? (this.#standing.newest?.generation ?? 0) : this.#stamp.generation;
  }

  get epoch(): number {
    return this.#writer?.epoch ?? this.#standing.newest?.epoch ?? 0;
  }

  /**
   * Read the headers again: a reader learns which copies are current now. Of a partition that is open for writing only this node changes them.
   * @throws StorageError EIO when no current copy can be read
   */
  async refresh(): Promise<void> {
    if (this.#writer !== null) return;
    const standing = standingOf(await this.#readHeaders());
    this.#standing = standing;
    this.#states.forEach((_, slot) => {
      this.#states[slot] = standing.current.includes(slot) ? "current" : "out";
    });
    if (standing.current.length === 0) throw this.#noCopy();
  }

  /**
   * Become the writer. Copies that are not there, or not current, are out from here on; those that are there are brought up to date.
   * @throws StorageError ESTALE when a header shows a newer epoch; EEXIST when two copies were used apart; EIO when none is current
   */
  async claim(options: WriterOptions): Promise<void> {
    options.guard?.();
    const standing = standingOf(await this.#readHeaders());
    if (standing.epoch > options.epoch) throw this.#overtaken(standing.epoch, options.epoch);
    if (standing.current.length === 0) throw this.#noCopy();
    if (standing.split !== null && options.force !== true) throw this.#splitError(standing.split);
    this.#standing = standing;
    this.#sequence = standing.sequence;
    const { generation, epoch } = must(standing.newest, "a current copy has a header");
    this.#stamp = { generation, epoch };
    this.#level = standing.newest?.equal === true || standing.current.length === 1;
    this.#states.forEach((_, slot) => {
      this.#states[slot] = standing.current.includes(slot) ? "current" : "out";
    });
    this.#writer = options;
    // Before the others go on without them, those that are behind stop naming themselves: nobody takes the two for copies used apart.
    for (const slot of this.#slots("out")) await this.#disown(slot);
    await this.#headers.run(() => this.#publish({ generation: standing.generation + OPEN_STEP }));
    for (const slot of this.#slots("out")) await this.memberBack(slot);
    this.#bringUp();
  }

  read(target: Buffer, at: LuByte): Promise<void> {
    return this.readv([target], at);
  }

  /** From the first current copy; from the next one what that cannot read. */
  async readv(targets: readonly Buffer[], at: LuByte): Promise<void> {
    this.#check(targets, at);
    await this.#readAny(targets, at);
  }

  write(source: Buffer, at: LuByte): Promise<void> {
    return this.writev([source], at);
  }

  async writev(sources: readonly Buffer[], at: LuByte): Promise<void> {
    await this.#put(sources, at, (device, position) => device.writev(sources, position));
  }

  /** Durable on every current copy when it resolves. */
  async writeThrough(sources: readonly Buffer[], at: LuByte): Promise<void> {
    await this.#put(sources, at, (device, position) => device.writeThrough(sources, position));
  }

  async flush(): Promise<void> {
    if (this.#writer === null) return;
    this.#checkWritable();
    await this.#refuseOvertaken();
    await this.#flushes.flush();
  }

  async *readAlternatives(target: Buffer, at: LuByte): AsyncIterable<void> {
    this.#check([target], at);
    for (const slot of this.#slots("current").slice(1)) {
      if (await this.#readCopy(slot, [target], at)) yield;
    }
  }

  /** On every copy in use. A reader leaves it to the writer. */
  async heal(good: Buffer, at: LuByte): Promise<void> {
    if (this.#writer === null) return;
    await this.writev([good], at);
  }

  /** Flush, and mark it closed cleanly; for a reader nothing. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      this.#closed = true;
      await this.#copying;
      if (this.#writer !== null && this.#failure === null) await this.#closeCleanly(this.#writer);
    } finally {
      this.#parts.onClosed(this);
    }
  }

  /** The member has gone, or must not be used any more: every partition stops with its copy before the next write is acknowledged. */
  async memberLost(slot: number): Promise<void> {
    if (!this.writable) return;
    await this.#drop([slot]).catch((error: unknown) => this.#expectStorageError(error));
  }

  /** The member is there again: its copy takes every write from now on, and is brought up to date in the background. */
  async memberBack(slot: number): Promise<void> {
    if (!this.writable || this.#states[slot] !== "out" || this.#device(slot) === null) return;
    if (!(await this.#disown(slot))) return;
    if (this.#states[slot] !== "out") return;
    this.#states[slot] = "rebuilding";
    this.#bringUp();
  }

  /**
   * What could not be copied is tried again. And after writes the generation rises: a copy that is put back as it was before is known by its own. Call it
   * every few seconds.
   */
  async tend(): Promise<void> {
    this.#bringUp();
    if (!this.#written || !this.writable) return;
    try {
      this.#checkWritable();
      await this.#refuseOvertaken();
      await this.#headers.run(() => this.#publish());
    } catch (error) {
      this.#expectStorageError(error);
    }
  }

  /** Resolves when nothing is being copied. */
  async settled(): Promise<void> {
    while (this.#copying !== null) await this.#copying;
  }

  async #closeCleanly(writer: WriterOptions): Promise<void> {
    writer.guard?.();
    await this.#refuseOvertaken();
    await this.#onAll((device) => device.flush());
    const step = this.#written ? 1 : 0;
    await this.#headers.run(() => this.#publish({ closed: true, generation: this.#stamp.generation + step }));
  }

  #slots(...states: readonly CopyState[]): number[] {
    return this.#states.flatMap((state, slot) => (states.includes(state) ? [slot] : []));
  }

  #device(slot: number): BlockDevice | null {
    return this.#parts.members[slot]?.device ?? null;
  }

  #place(at: number): number {
    return this.#start + PARTITION.lu + at;
  }

  #check(buffers: readonly Buffer[], at: number): number {
    let byteCount = 0;
    for (const buffer of buffers) byteCount += buffer.length;
    const sound = buffers.every(({ length }) => length % BLOCK_BYTES === 0) && at % BLOCK_BYTES === 0 && at >= 0;
    if (sound && at + byteCount <= this.sizeBytes) return byteCount;
    const text = `LU "${this.description.name}": not whole blocks inside the LU`;
    throw new StorageError("EINVAL", text, { at, byteCount, sizeBytes: this.sizeBytes });
  }

  #checkWritable(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#writer === null) throw this.#error("EROFS", "is open for reading only");
    this.#writer.guard?.();
  }

  /** Somebody else has written the header since: this node is the writer no more (I-6). */
  async #refuseOvertaken(): Promise<void> {
    const writer = this.#writer;
    if (writer === null) return;
    for (const slot of this.#slots("current")) {
      const header = await this.#readHeader(slot);
      if (header === null) continue;
      if (header.epoch <= writer.epoch && header.sequence <= this.#sequence) return;
      this.#fail(this.#overtaken(header.epoch, writer.epoch));
      throw must(this.#failure, "it has just failed");
    }
  }

  async #put(
    sources: readonly Buffer[],
    at: number,
    action: (device: BlockDevice, position: number) => Promise<void>,
  ): Promise<void> {
    const byteCount = this.#check(sources, at);
    this.#checkWritable();
    await this.#refuseOvertaken();
    await this.#gate.pass(at, at + byteCount, () => this.#onAll((device) => action(device, this.#place(at))));
    // Not before: one that is under way while the generation rises may come after it on a disk.
    this.#written = true;
    this.#flushes.wrote();
  }

  /** Do it on every copy in use; those that fail are out when it resolves. @throws StorageError EIO when no current copy is left */
  async #onAll(action: (device: BlockDevice) => Promise<void>): Promise<void> {
    const slots = this.#slots("current", "rebuilding");
    const results = await Promise.allSettled(slots.map((slot) => this.#onOne(slot, action)));
    const failed: number[] = [];
    results.forEach((result, i) => {
      if (result.status === "fulfilled") return;
      this.#expectStorageError(result.reason);
      failed.push(slots[i]!);
      this.#tell(slots[i]!, result.reason);
    });
    if (this.#failure !== null) throw this.#failure;
    // Also who was excluded by somebody else's failure meanwhile must be on record before this one is acknowledged.
    if (failed.length > 0 || this.#headers.held) await this.#drop(failed);
  }

  #onOne(slot: number, action: (device: BlockDevice) => Promise<void>): Promise<void> {
    const device = this.#device(slot);
    if (device === null) return Promise.reject(this.#error("ENXIO", `has no disk in slot ${slot}`));
    return action(device);
  }

  /** Exclude copies, durably. @throws StorageError EIO when none is left */
  #drop(slots: readonly number[]): Promise<void> {
    const wereCurrent = slots.filter((slot) => this.#states[slot] === "current");
    for (const slot of slots) this.#states[slot] = "out";
    return this.#headers.run(async () => {
      if (this.#failure !== null) throw this.#failure;
      if (wereCurrent.length > 0) await this.#publish();
    });
  }

  /**
   * Write the header of what is current now on all current copies, durably; then on `joiners`, which become current by it. A copy that does not take
   * it is out, and the next header says so.
   */
  async #publish(how: { closed?: boolean; generation?: number; joiners?: readonly number[] } = {}): Promise<void> {
    const { epoch } = must(this.#writer, "only a writer writes headers");
    this.#written = false;
    let joiners = [...(how.joiners ?? [])];
    for (let generation = how.generation ?? this.#stamp.generation + 1; ; generation++) {
      const current = this.#slots("current");
      if (current.length === 0) throw this.#fail(this.#error("EIO", "has lost its last current copy"));
      const mask = bitsOf([...current, ...joiners]);
      this.#sequence++;
      this.#stamp = { generation, epoch };
      const failed = await this.#writeHeaders(current, mask, how.closed);
      for (const slot of failed) this.#states[slot] = "out";
      if (failed.length > 0) continue;
      if (await this.#join(joiners, mask)) return;
      joiners = [];
    }
  }

  /** @returns whether all of them are current now */
  async #join(joiners: readonly number[], mask: number): Promise<boolean> {
    const failed = await this.#writeHeaders(joiners, mask);
    // One that has missed a write since is out already, whatever its header says: the next one excludes it.
    const joined = joiners.filter((slot) => !failed.includes(slot) && this.#states[slot] === "rebuilding");
    for (const slot of joiners) this.#states[slot] = joined.includes(slot) ? "current" : "out";
    return joined.length === joiners.length;
  }

  /** @returns slots on which it could not be written */
  async #writeHeaders(slots: readonly number[], mask: number, closed = false): Promise<number[]> {
    const headers = slots.map((slot) => this.#header(slot, mask, closed));
    const write = (header: PartitionHeader) =>
      this.#onOne(header.copy, (device) => writeHeader(device, this.#start, header));
    const results = await Promise.allSettled(headers.map(write));
    return slots.filter((slot, i) => {
      const result = results[i];
      if (result?.status !== "rejected") return false;
      this.#expectStorageError(result.reason);
      this.#tell(slot, result.reason);
      return true;
    });
  }

  #header(copy: number, currentCopies: number, closed: boolean): PartitionHeader {
    const { groupUuid, index: partition } = this.#parts;
    const { writer } = must(this.#writer, "only a writer writes headers");
    const state = { closed, equal: closed && this.#level };
    return { groupUuid, partition, copy, sequence: this.#sequence, ...this.#stamp, currentCopies, ...state, writer };
  }

  /** A copy that is out, and there, stops naming itself, so that it can never be taken for current while it is copied. */
  #disown(slot: number): Promise<boolean> {
    return this.#headers.run(async () => {
      if (this.#device(slot) === null || !this.writable) return false;
      const current = this.#slots("current");
      if (current.length === 0) return false;
      this.#sequence++;
      return (await this.#writeHeaders([slot], bitsOf(current))).length === 0;
    });
  }

  async #readHeaders(): Promise<(PartitionHeader | null)[]> {
    return Promise.all(this.#parts.members.map(({ slot }) => this.#readHeader(slot)));
  }

  /** null when it cannot be read, is damaged, or is not there. */
  async #readHeader(slot: number): Promise<PartitionHeader | null> {
    const device = this.#device(slot);
    if (device === null) return null;
    const { groupUuid, index: partition } = this.#parts;
    return readHeaderPair(device, this.#start, { groupUuid, partition, copy: slot }).catch((error: unknown) => {
      this.#expectStorageError(error);
      if (isStorageError(error, "ENXIO")) this.#tell(slot, error);
      return null;
    });
  }

  async #readAny(targets: readonly Buffer[], at: number): Promise<void> {
    const tried: number[] = [];
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      const slot = this.#slots("current").find((one) => !tried.includes(one));
      if (slot === undefined) throw this.#error("EIO", "cannot be read from any current copy", { at });
      if (await this.#readCopy(slot, targets, at)) return;
      tried.push(slot);
    }
  }

  /** @returns whether it could be read */
  async #readCopy(slot: number, targets: readonly Buffer[], at: number): Promise<boolean> {
    try {
      await this.#onOne(slot, (device) => device.readv(targets, this.#place(at)));
      return true;
    } catch (error) {
      this.#expectStorageError(error);
      this.#parts.log.warn({ lu: this.description.name, slot, at, error: messageOf(error) }, "a copy cannot be read");
      if (isStorageError(error, "ENXIO")) this.#tell(slot, error);
      return false;
    }
  }

  /** Copy in the background until nothing is left to copy. */
  #bringUp(): void {
    if (this.#copying !== null || !this.writable || !this.#hasWork()) return;
    this.#copying = this.#copyAll()
      .catch((error: unknown) => {
        this.#expectStorageError(error);
        this.#parts.log.warn(
          { lu: this.description.name, error: messageOf(error) },
          "a copy was not brought up to date",
        );
        for (const slot of this.#slots("rebuilding")) this.#states[slot] = "out";
      })
      .finally(() => {
        this.#copying = null;
        if (this.#slots("rebuilding").length > 0) this.#bringUp();
      });
  }

  #hasWork(): boolean {
    return !this.#level || this.#slots("rebuilding").length > 0;
  }

  /** One pass over the partition, for all copies that were rebuilding, or not equal, when it began. */
  async #copyAll(): Promise<void> {
    const joiners = this.#slots("rebuilding");
    const levelling = !this.#level;
    const [piece, other] = [Buffer.allocUnsafeSlow(COPY_BYTES), Buffer.allocUnsafeSlow(COPY_BYTES)];
    for (let at = 0; at < this.sizeBytes && this.writable; at += COPY_BYTES) {
      const byteCount = Math.min(COPY_BYTES, this.sizeBytes - at);
      await this.#gate.close(at, at + byteCount);
      try {
        await this.#copyPiece(piece.subarray(0, byteCount), other.subarray(0, byteCount), at, joiners, levelling);
      } finally {
        this.#gate.open();
      }
      await nextTurn();
    }
    if (!this.writable) return;
    await this.#onAll((device) => device.flush());
    if (levelling) this.#level = true;
    const whole = joiners.filter((slot) => this.#states[slot] === "rebuilding");
    if (whole.length > 0) await this.#headers.run(() => this.#publish({ joiners: whole }));
  }

  async #copyPiece(
    piece: Buffer,
    other: Buffer,
    at: number,
    joiners: readonly number[],
    levelling: boolean,
  ): Promise<void> {
    await this.#readAny([piece], at);
    const behind = [...joiners, ...(levelling ? this.#slots("current") : [])];
    for (const slot of behind) {
      if (this.#states[slot] === "out") continue;
      if ((await this.#readCopy(slot, [other], at)) && other.equals(piece)) continue;
      await this.#copyTo(slot, piece, at);
    }
  }

  /** A copy that does not take it is out; the others go on. */
  async #copyTo(slot: number, piece: Buffer, at: number): Promise<void> {
    try {
      await this.#onOne(slot, (device) => device.write(piece, this.#place(at)));
    } catch (error) {
      this.#expectStorageError(error);
      this.#tell(slot, error);
      await this.#drop([slot]);
    }
  }

  #tell(slot: number, error: unknown): void {
    const member = this.#parts.members[slot];
    if (member !== undefined && member.device !== null) this.#parts.onMemberError(member, error);
  }

  #expectStorageError(error: unknown): void {
    if (!isStorageError(error)) throw error;
  }

  #fail(error: StorageError): StorageError {
    this.#failure ??= error;
    return this.#failure;
  }

  #error(code: Errno, what: string, detail: Readonly<Record<string, unknown>> = {}): StorageError {
    const { name } = this.description;
    return new StorageError(code, `LU "${name}" ${what}`, { lu: name, ...detail });
  }

  #overtaken(newer: number, ours: number): StorageError {
    return this.#error("ESTALE", "has a newer owner", { epoch: ours, ownerEpoch: newer });
  }

  #noCopy(): StorageError {
    return this.#error("EIO", "has no current copy here");
  }

  #splitError([one, other]: readonly [number, number]): StorageError {
    const name = (slot: number) => this.#parts.members[slot]?.label.path ?? `slot ${slot}`;
    return this.#error("EEXIST", `was written on ${name(one)} and on ${name(other)}, each without the other`);
  }
}

function bitsOf(slots: readonly number[]): number {
  return slots.reduce((bits, slot) => bits | (1 << slot), 0);
}
