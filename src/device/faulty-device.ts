import { type Clock, pause } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { roundDown } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { type ActiveFault, type Fault, type FaultKind, FaultSet, Rot, strayPosition } from "./fault.js";
import { SECTOR_BYTES } from "./memory-media.js";
import { checkRange, checkWritable, closedError, InFlight, totalBytes } from "./range.js";

export interface FaultyOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** How a slow disk lets time pass; by default on the clock, which holds no thread as a real one does. */
  readonly hold?: ((ms: number) => Promise<void>) | undefined;
  /** By default a set of its own, without a fault. */
  readonly faults?: FaultSet | undefined;
}

type Pass = (part: readonly Buffer[], at: number) => Promise<void>;

const NEVER = new Promise<never>(() => {});

/**
 * A layer over any device that does wrong on demand (see fault.ts); without a fault it passes everything on. Faults are set and
 * cleared while it is in use. Closing it closes the device below.
 */
export class FaultyDevice implements BlockDevice {
  readonly #below: BlockDevice;
  readonly #hold: (ms: number) => Promise<void>;
  readonly #random: Random;
  readonly #inFlight = new InFlight();
  readonly #rot = new Rot();
  readonly #faults: FaultSet;
  #halted = false;
  #detached = false;
  #closed: Promise<void> | null = null;

  constructor(below: BlockDevice, options: FaultyOptions) {
    this.#below = below;
    this.#hold = options.hold ?? ((ms) => pause(options.clock, ms));
    this.#random = options.random;
    this.#faults = options.faults ?? new FaultSet();
  }

  get name(): string {
    return this.#below.name;
  }
  get sizeBytes(): number {
    return this.#below.sizeBytes;
  }
  get readOnly(): boolean {
    return this.#below.readOnly;
  }
  get alignmentBytes(): number {
    return this.#below.alignmentBytes;
  }

  /** Faults add up; the same kind may be set for several ranges. */
  inject(fault: Fault): void {
    this.#faults.inject(fault, this.#random);
  }

  /** @param kind by default all of them */
  clear(kind?: FaultKind): void {
    this.#faults.clear(kind);
  }

  faults(): Fault[] {
    return this.#faults.active.map(({ fault }) => fault);
  }

  /** Bytes that read wrong until they are written over. */
  get rottenBytes(): number {
    return this.#rot.size;
  }

  /** The machine stands still: no request settles any more, whatever becomes of it below. */
  halt(): void {
    this.#halted = true;
  }

  /** Pulled out for good: ENXIO from now on. When the disk is put back it is opened anew, as another device. */
  detach(): void {
    this.#detached = true;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  readv(targets: readonly Buffer[], position: number): Promise<void> {
    return this.#run("read", position, totalBytes(targets), (byteCount) => this.#read(targets, position, byteCount));
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.writev([source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(sources, position, (part, at) => this.#below.writev(part, at));
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(sources, position, (part, at) => this.#below.writeThrough(part, at));
  }

  flush(): Promise<void> {
    return this.#run("write", 0, 0, () => this.#below.flush());
  }

  close(): Promise<void> {
    this.#closed ??= this.#inFlight.drain().then(() => this.#below.close());
    return this.#closed;
  }

  async #read(targets: readonly Buffer[], position: number, byteCount: number): Promise<void> {
    await this.#below.readv(targets, position);
    const rotting = this.#faults.striking("bitrot", position, byteCount);
    if (rotting !== null) {
      const { from, to } = rotting.overlap(position, byteCount);
      if (!this.#rot.meets(from, to)) {
        rotting.strike();
        this.#rot.flipOne(from, to, rotting.random);
      }
    }
    this.#rot.apply(targets, position);
  }

  #write(sources: readonly Buffer[], position: number, pass: Pass): Promise<void> {
    return this.#run("write", position, totalBytes(sources), async (byteCount) => {
      checkWritable(this, position);
      const lost = this.#faults.striking("lost", position, byteCount);
      if (lost !== null) return lost.strike();
      const stray = this.#faults.striking("misdirected", position, byteCount);
      const at = stray === null ? position : this.#stray(stray, position, byteCount);
      if (at === null) return;
      const torn = this.#faults.striking("torn", position, byteCount);
      const part = torn === null ? sources : await this.#tear(torn, sources, at, byteCount);
      await pass(part, at);
      this.#rot.clear(at, at + totalBytes(part));
    });
  }

  #stray(active: ActiveFault, position: number, byteCount: number): number | null {
    active.strike();
    const unit = Math.max(SECTOR_BYTES, this.alignmentBytes);
    return strayPosition(active, this, { position, byteCount, unit });
  }

  /** Everything that happens to every request, then the request. */
  async #run(
    on: "read" | "write",
    position: number,
    byteCount: number,
    action: (byteCount: number) => Promise<void>,
  ): Promise<void> {
    if (this.#inFlight.closed) throw this.#detached ? this.#gone(position) : closedError(this.name, position);
    checkRange(this, position, byteCount);
    this.#inFlight.enter();
    try {
      if (!this.#faults.none) await this.#delay(position, byteCount);
      if (this.#detached) throw this.#gone(position);
      if (!this.#faults.none) this.#refuse(on, position, byteCount);
      if (!this.#halted) await action(byteCount);
    } finally {
      this.#inFlight.leave();
      if (this.#halted) await NEVER;
    }
  }

  async #delay(position: number, byteCount: number): Promise<void> {
    for (const active of this.#faults.active) {
      const { fault } = active;
      if (fault.kind !== "slow" || !this.#hits(active, position, byteCount)) continue;
      active.strike();
      await this.#hold(fault.delayMs);
    }
  }

  #refuse(on: "read" | "write", position: number, byteCount: number): void {
    for (const active of this.#faults.active) {
      const { fault } = active;
      if ((fault.kind !== "gone" && fault.kind !== "eio") || !this.#hits(active, position, byteCount)) continue;
      if (fault.kind === "eio" && fault.on !== undefined && fault.on !== on) continue;
      active.strike();
      if (fault.kind === "gone") throw this.#gone(position);
      const detail = { device: this.name, position, injected: "eio" };
      throw new StorageError("EIO", `${on} of ${this.name} failed`, detail);
    }
  }

  #gone(position: number): StorageError {
    const detail = { device: this.name, position, injected: "gone" };
    return new StorageError("ENXIO", `${this.name} is gone`, detail);
  }

  /** A flush touches no range: it meets only faults of the whole device. */
  #hits(active: ActiveFault, position: number, byteCount: number): boolean {
    if (byteCount > 0) return active.covers(position, byteCount);
    return !active.spent && active.fault.position === undefined && active.fault.byteCount === undefined;
  }

  /** The first sectors of a write: at least none, at most all but one. */
  async #tear(
    active: ActiveFault,
    sources: readonly Buffer[],
    position: number,
    byteCount: number,
  ): Promise<readonly Buffer[]> {
    active.strike();
    const kept = roundDown(active.random.below(byteCount), SECTOR_BYTES);
    const part = firstBytes(sources, kept);
    const whole = roundDown(kept, this.alignmentBytes);
    if (whole === kept) return part;
    // The device writes whole blocks only: the one that is torn is made up of new sectors and those that are there.
    const torn = Buffer.alloc(this.alignmentBytes);
    await this.#below.read(torn, position + whole);
    Buffer.concat([...part]).copy(torn, 0, whole);
    return [...firstBytes(sources, whole), torn];
  }
}

function firstBytes(sources: readonly Buffer[], byteCount: number): Buffer[] {
  let left = byteCount;
  const part: Buffer[] = [];
  for (const source of sources) {
    const taken = source.subarray(0, Math.min(left, source.length));
    if (taken.length > 0) part.push(taken);
    left -= taken.length;
  }
  return part;
}
