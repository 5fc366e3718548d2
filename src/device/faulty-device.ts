import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { roundDown } from "../lib/units.js";
import type { BlockDevice } from "./device.js";
import { ActiveFault, type Fault, type FaultKind, Rot } from "./fault.js";
import { checkRange, checkWritable, closedError, InFlight, totalBytes } from "./range.js";

const SECTOR_BYTES = 512;

/**
 * A layer over any device that does wrong on demand (see fault.ts); without a fault it passes everything on. Faults are set and
 * cleared while it is in use. Closing it closes the device below.
 */
export class FaultyDevice implements BlockDevice {
  readonly #below: BlockDevice;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #inFlight = new InFlight();
  readonly #rot = new Rot();
  #faults: ActiveFault[] = [];
  #closed: Promise<void> | null = null;

  constructor(below: BlockDevice, options: { readonly clock: Clock; readonly random: Random }) {
    this.#below = below;
    this.#clock = options.clock;
    this.#random = options.random;
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
    this.#faults.push(new ActiveFault(fault));
  }

  /** @param kind by default all of them */
  clear(kind?: FaultKind): void {
    this.#faults = kind === undefined ? [] : this.#faults.filter(({ fault }) => fault.kind !== kind);
  }

  faults(): Fault[] {
    return this.#faults.filter(({ spent }) => !spent).map(({ fault }) => fault);
  }

  /** Bytes that read wrong until they are written over. */
  get rottenBytes(): number {
    return this.#rot.size;
  }

  read(target: Buffer, position: number): Promise<void> {
    return this.readv([target], position);
  }

  readv(targets: readonly Buffer[], position: number): Promise<void> {
    const byteCount = totalBytes(targets);
    return this.#run("read", position, byteCount, async () => {
      await this.#below.readv(targets, position);
      const rotting = this.#striking("bitrot", position, byteCount);
      if (rotting !== null) {
        const { from, to } = rotting.overlap(position, byteCount);
        if (!this.#rot.meets(from, to)) {
          rotting.strike();
          this.#rot.flipOne(from, to, this.#random);
        }
      }
      this.#rot.apply(targets, position);
    });
  }

  write(source: Buffer, position: number): Promise<void> {
    return this.writev([source], position);
  }

  writev(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(sources, position, (part) => this.#below.writev(part, position));
  }

  writeThrough(sources: readonly Buffer[], position: number): Promise<void> {
    return this.#write(sources, position, (part) => this.#below.writeThrough(part, position));
  }

  flush(): Promise<void> {
    return this.#run("write", 0, 0, () => this.#below.flush());
  }

  close(): Promise<void> {
    this.#closed ??= this.#inFlight.drain().then(() => this.#below.close());
    return this.#closed;
  }

  #write(
    sources: readonly Buffer[],
    position: number,
    pass: (part: readonly Buffer[]) => Promise<void>,
  ): Promise<void> {
    const byteCount = totalBytes(sources);
    return this.#run("write", position, byteCount, async () => {
      checkWritable(this, position);
      const lost = this.#striking("lost", position, byteCount);
      if (lost !== null) return lost.strike();
      const torn = this.#striking("torn", position, byteCount);
      torn?.strike();
      const part = torn === null ? sources : this.#tear(sources, byteCount);
      await pass(part);
      this.#rot.clear(position, position + totalBytes(part));
    });
  }

  /** Everything that happens to every request, then the request. */
  async #run(on: "read" | "write", position: number, byteCount: number, action: () => Promise<void>): Promise<void> {
    if (this.#inFlight.closed) throw closedError(this.name, position);
    checkRange(this, position, byteCount);
    this.#inFlight.enter();
    try {
      await this.#delay(position, byteCount);
      this.#refuse(on, position, byteCount);
      await action();
    } finally {
      this.#inFlight.leave();
    }
  }

  async #delay(position: number, byteCount: number): Promise<void> {
    for (const active of this.#faults) {
      const { fault } = active;
      if (fault.kind !== "slow" || !this.#hits(active, position, byteCount)) continue;
      active.strike();
      await new Promise<void>((resolve) => this.#clock.after(fault.delayMs, resolve));
    }
  }

  #refuse(on: "read" | "write", position: number, byteCount: number): void {
    for (const active of this.#faults) {
      const { fault } = active;
      if ((fault.kind !== "gone" && fault.kind !== "eio") || !this.#hits(active, position, byteCount)) continue;
      if (fault.kind === "eio" && fault.on !== undefined && fault.on !== on) continue;
      active.strike();
      const detail = { device: this.name, position, injected: fault.kind };
      if (fault.kind === "gone") throw new StorageError("ENXIO", `${this.name} is gone`, detail);
      throw new StorageError("EIO", `${on} of ${this.name} failed`, detail);
    }
  }

  /** A flush touches no range: it meets only faults of the whole device. */
  #hits(active: ActiveFault, position: number, byteCount: number): boolean {
    if (byteCount > 0) return active.covers(position, byteCount);
    return !active.spent && active.fault.position === undefined && active.fault.byteCount === undefined;
  }

  #striking(kind: FaultKind, position: number, byteCount: number): ActiveFault | null {
    return this.#faults.find((one) => one.fault.kind === kind && one.covers(position, byteCount)) ?? null;
  }

  /** The first sectors of a write: at least none, at most all but one unit. */
  #tear(sources: readonly Buffer[], byteCount: number): readonly Buffer[] {
    const unit = Math.max(SECTOR_BYTES, this.alignmentBytes);
    const kept = roundDown(this.#random.below(byteCount), unit);
    let left = kept;
    const part: Buffer[] = [];
    for (const source of sources) {
      const taken = source.subarray(0, Math.min(left, source.length));
      if (taken.length > 0) part.push(taken);
      left -= taken.length;
    }
    return part;
  }
}
