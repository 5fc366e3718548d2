import { crc32c } from "../../src/lib/crc32c.js";
import type { StorageError } from "../../src/lib/errors.js";
import { nextTurn } from "../../src/lib/next-turn.js";
import { BLOCK_BYTES, type LuByte, MIB } from "../../src/lib/units.js";
import type { LogicalUnit } from "../../src/lu/lu.js";
import type { BlockInspector, Group, GroupEvent, ScrubOptions, TaskDescription } from "../../src/raid/contract.js";
import { type CopyPlace, Raid1Geometry, Raid5Geometry, RowMap } from "../../src/raid/geometry.js";
import { RaidRig } from "../model/raid-rig.js";

export const LU_BYTES = 4 * MIB;
const JOURNAL_BYTES = 4 * MIB;

/** Knows the checksum of the blocks that it is told of, as a file system would. */
export class FakeInspector implements BlockInspector {
  sliceBytes = MIB;
  readonly owned = new Map<number, number>();
  readonly slices: Array<readonly [number, number]> = [];
  /** What the next questions about a block are answered, whatever it holds. */
  readonly answers = new Map<number, Array<"good" | "bad" | "unknown">>();
  error: StorageError | null = null;
  closed = 0;
  /** Questions about single blocks. */
  judged = 0;

  own(at: number, content: Buffer): void {
    for (let i = 0; i < content.length; i += BLOCK_BYTES) {
      this.owned.set(at + i, crc32c(content.subarray(i, i + BLOCK_BYTES)));
    }
  }

  async prepare(from: LuByte, to: LuByte): Promise<void> {
    if (this.error !== null) throw this.error;
    this.slices.push([from, to]);
  }

  suspects(data: Buffer, at: LuByte, bad: (at: LuByte) => void): void {
    const slice = this.slices.at(-1);
    if (slice === undefined || at < slice[0] || at + data.length > slice[1]) throw new Error(`${at} is not prepared`);
    for (let i = 0; i < data.length; i += BLOCK_BYTES) {
      const block = data.subarray(i, i + BLOCK_BYTES);
      if (this.answers.has(at + i) || this.#verdict(block, at + i) === "bad") bad((at + i) as LuByte);
    }
  }

  #verdict(block: Buffer, at: number): "good" | "bad" | "unknown" {
    const checksum = this.owned.get(at);
    if (checksum === undefined) return "unknown";
    return checksum === crc32c(block) ? "good" : "bad";
  }

  async judge(block: Buffer, at: LuByte): Promise<"good" | "bad" | "unknown"> {
    this.judged++;
    return this.answers.get(at)?.shift() ?? this.#verdict(block, at);
  }

  async nameOf(at: LuByte): Promise<string | null> {
    return this.owned.has(at) ? `/file (block ${at / BLOCK_BYTES})` : null;
  }

  close(): void {
    this.closed++;
  }
}

export interface DiskPlace {
  readonly disk: number;
  readonly position: number;
}

/** A group with one LU full of known content. */
export class ScrubFixture {
  readonly rig: RaidRig;
  group!: Group;
  lu!: LogicalUnit;
  content!: Buffer;
  inspector = new FakeInspector();

  constructor(
    readonly level: 1 | 5,
    readonly members: number,
    readonly chunkBytes = 64 * 1024,
  ) {
    this.rig = new RaidRig({ members, seed: 4711 + members, chunkBytes });
  }

  async start(): Promise<this> {
    this.group = await this.rig.create();
    await this.group.createLu("data", this.level, LU_BYTES);
    this.lu = this.group.openLu(1);
    this.content = Buffer.alloc(this.lu.sizeBytes);
    for (let i = 0; i < this.content.length; i += 4) this.content.writeUInt32LE(this.rig.random.next(), i);
    await this.lu.write(this.content, 0 as LuByte);
    await this.lu.flush();
    this.inspector.own(0, this.content);
    return this;
  }

  async reopen(): Promise<void> {
    this.rig.reopen();
    this.group = await this.rig.assemble();
    this.lu = this.group.openLu(1);
  }

  #geometry(): RowMap {
    const { chunkBytes, rowBytes, rowCount } = this.group.describe();
    const runs = [{ first: 0, count: rowCount }];
    const { parityRun } = this.rig;
    const shape = { chunkBytes, rowBytes, rowCount, journalBytes: JOURNAL_BYTES, regionBytes: MIB, parityRun };
    return new RowMap(shape, runs);
  }

  /** Where a block lies: of RAID-1 one copy or the other. */
  placeOf(at: number, copy = 0): DiskPlace {
    const rows = this.#geometry();
    const inChunk = at % this.chunkBytes;
    if (this.level === 1) {
      const place = { member: 0, inLu: 0 } as CopyPlace;
      new Raid1Geometry(this.members, this.chunkBytes, rows).locate(Math.floor(at / this.chunkBytes), copy, place);
      return { disk: place.member, position: rows.memberByte(place.inLu) + inChunk };
    }
    const geometry = new Raid5Geometry(this.members, this.chunkBytes, this.rig.parityRun, rows);
    const stripe = Math.floor(at / geometry.stripeBytes);
    const chunk = Math.floor((at % geometry.stripeBytes) / this.chunkBytes);
    return { disk: geometry.dataMember(stripe, chunk), position: geometry.memberByte(stripe) + inChunk };
  }

  /** Where the parity of a block's column lies. */
  parityOf(at: number): DiskPlace {
    const geometry = new Raid5Geometry(this.members, this.chunkBytes, this.rig.parityRun, this.#geometry());
    const stripe = Math.floor(at / geometry.stripeBytes);
    return { disk: geometry.parityMember(stripe), position: geometry.memberByte(stripe) + (at % this.chunkBytes) };
  }

  async look({ disk, position }: DiskPlace): Promise<Buffer> {
    const block = Buffer.alloc(BLOCK_BYTES);
    await this.rig.devices[disk]!.read(block, position);
    return block;
  }

  rot({ disk, position }: DiskPlace, byte = 0xee): void {
    this.rig.devices[disk]!.poke(Buffer.alloc(BLOCK_BYTES, byte), position);
  }

  /** The sector cannot be read until it is written again, as on a real disk. */
  unreadable({ disk, position }: DiskPlace): void {
    this.rig.devices[disk]!.failRange({ position, byteCount: BLOCK_BYTES, on: "read" });
    this.rig.before = (operation, on, at) => {
      if (operation === "write" && on === disk && at === position) this.rig.devices[disk]!.heal();
    };
  }

  options(heal = true, inspector: FakeInspector | null = this.inspector): ScrubOptions {
    return { heal, inspectors: new Map(inspector === null ? [] : [[1, inspector]]) };
  }

  /** Scrub from one end to the other. */
  async scrub(options = this.options()): Promise<TaskDescription> {
    await this.group.scrub(options);
    return this.ended();
  }

  task(): TaskDescription {
    const task = this.group.describe().tasks.find((one) => one.kind === "scrub");
    if (task === undefined) throw new Error("there is no scrub");
    return task;
  }

  /** Let what is under way go on, and time pass: work in the background rests while clients are there. */
  async turn(): Promise<void> {
    await nextTurn();
    this.rig.clock.pass();
  }

  async ended(): Promise<TaskDescription> {
    while (this.task().endedMs === undefined) await this.turn();
    return this.task();
  }

  /** Until the scrub has done some of its work. */
  async under(doneBytes = 1): Promise<void> {
    while (this.task().doneBytes < doneBytes) await this.turn();
  }

  events(kind: GroupEvent["kind"]): GroupEvent[] {
    return this.rig.events.filter((event) => event.kind === kind);
  }

  async readAll(): Promise<Buffer> {
    const all = Buffer.alloc(this.lu.sizeBytes);
    for (let at = 0; at < all.length; at += MIB) await this.lu.read(all.subarray(at, at + MIB), at as LuByte);
    return all;
  }
}

export const EVERY_LAYOUT: ReadonlyArray<readonly [1 | 5, number]> = [
  [1, 2],
  [1, 3],
  [5, 3],
  [5, 5],
];
