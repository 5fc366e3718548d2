import type { BlockDevice } from "../device/device.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LAYOUT } from "../raid/layout.js";
import type { Sighting } from "./partner-watch.js";
import {
  decodeHeartbeat,
  decodeLease,
  encodeHeartbeat,
  encodeLease,
  HEARTBEAT_BLOCK,
  type Heartbeat,
  LEASE_BLOCK,
  type Lease,
} from "./record.js";

/** A disk that both nodes see. */
export interface BoardDisk {
  readonly path: string;
  /** UUID of the group that it is a member of; null: of none. */
  readonly group: string | null;
}

export interface BoardParts {
  /** For reading and writing, without a lock: the reserved area is written by both nodes, each its own blocks. */
  readonly open: (path: string) => Promise<BlockDevice>;
  readonly log: Logger;
  /** Whether what is written must be on the disk before it counts: the partner is on another host. */
  readonly durable: () => boolean;
}

/** The newest lease of a group that each of two nodes has written. */
export interface LeaseView {
  readonly own: Lease | null;
  readonly other: Lease | null;
}

/** The reserved areas of all disks: where two nodes leave word for each other. A disk that fails is passed over, and opened anew the next time. */
export class Board {
  #disks: readonly BoardDisk[] = [];
  #diskCount = 0;
  readonly #devices = new Map<string, BlockDevice>();
  /** Disks that have not answered the last heartbeat, or question for one: they are not asked again meanwhile, and hold nothing up. */
  readonly #writing = new Set<string>();
  readonly #reading = new Set<string>();

  constructor(private readonly parts: BoardParts) {}

  /** Found or not: a majority is one of these. */
  get diskCount(): number {
    return this.#diskCount;
  }

  /** Some were not found when it was last looked for them. */
  get lacksDisks(): boolean {
    return this.#disks.length < this.#diskCount;
  }

  /** @param diskCount  how many there should be, when more than were found */
  async setDisks(disks: readonly BoardDisk[], diskCount = disks.length): Promise<void> {
    this.#disks = disks;
    this.#diskCount = Math.max(diskCount, disks.length);
    const wanted = new Set(disks.map(({ path }) => path));
    for (const path of [...this.#devices.keys()]) if (!wanted.has(path)) await this.#drop(path);
  }

  /** @returns how many disks hold it now */
  async writeHeartbeat(slot: number, value: Heartbeat): Promise<number> {
    const disks = this.#disks.filter(({ path }) => !this.#writing.has(path));
    return await this.#writeAll(
      disks,
      HEARTBEAT_BLOCK + slot,
      encodeHeartbeat(value),
      this.parts.durable(),
      this.#writing,
    );
  }

  async readHeartbeats(slot: number): Promise<Sighting> {
    const disks = this.#disks.filter(({ path }) => !this.#reading.has(path));
    const blocks = await this.#readAll(disks, HEARTBEAT_BLOCK + slot, this.#reading);
    const found = blocks.flatMap((block) => decodeHeartbeat(block) ?? []);
    return { found, readCount: blocks.length, diskCount: this.#diskCount };
  }

  /** Disks that hold no heartbeat of the node as young as `sequence`. */
  async disksWithout(slot: number, sequence: number): Promise<string[]> {
    const without: string[] = [];
    for (const disk of this.#disks) {
      const [block] = await this.#readAll([disk], HEARTBEAT_BLOCK + slot);
      const found = block === undefined ? null : decodeHeartbeat(block);
      if (block !== undefined && (found === null || found.sequence < sequence)) without.push(disk.path);
    }
    return without;
  }

  /**
   * On the members of its group. Durable when it resolves.
   * @param slot  of the node that writes it
   * @param memberCount  of the group, found or not
   * @throws StorageError EIO when it is not on a majority: then it may count, or not
   */
  async writeLease(slot: number, value: Lease, memberCount: number): Promise<void> {
    const members = this.#membersOf(value.group);
    const written = await this.#writeAll(members, LEASE_BLOCK + slot, encodeLease(value), true);
    if (written * 2 > memberCount) return;
    throw new StorageError("EIO", `the lease is on ${written} of ${memberCount} disks, which is no majority`);
  }

  /**
   * What any member holds counts, also when it is no majority: a claim may be on its way, and what is released is let go of for good. A lease that is on a
   * majority is always seen.
   * @throws StorageError EIO when so few members can be read that one could be missed
   */
  async readLease(group: string, memberCount: number, slots: { own: number; other: number }): Promise<LeaseView> {
    const members = this.#membersOf(group);
    const [own, other] = await Promise.all([
      this.#newestLease(members, group, slots.own, memberCount),
      this.#newestLease(members, group, slots.other, memberCount),
    ]);
    return { own, other };
  }

  async #newestLease(
    members: readonly BoardDisk[],
    group: string,
    slot: number,
    memberCount: number,
  ): Promise<Lease | null> {
    const blocks = await this.#readAll(members, LEASE_BLOCK + slot);
    if (Math.floor(memberCount / 2) + 1 + blocks.length <= memberCount) {
      throw new StorageError("EIO", `only ${blocks.length} of ${memberCount} disks can be asked for the lease`);
    }
    const found = blocks.flatMap((block) => decodeLease(block) ?? []).filter((lease) => lease.group === group);
    found.sort((a, b) => b.epoch - a.epoch || b.sequence - a.sequence);
    return found[0] ?? null;
  }

  async close(): Promise<void> {
    this.#disks = [];
    this.#diskCount = 0;
    for (const path of [...this.#devices.keys()]) await this.#drop(path);
  }

  #membersOf(group: string): BoardDisk[] {
    return this.#disks.filter((disk) => disk.group === group);
  }

  async #writeAll(
    disks: readonly BoardDisk[],
    block: number,
    bytes: Buffer,
    durable: boolean,
    busy = new Set<string>(),
  ): Promise<number> {
    const position = LAYOUT.reserved + block * BLOCK_BYTES;
    const write = (device: BlockDevice) =>
      durable ? device.writeThrough([bytes], position) : device.write(bytes, position);
    const done = await Promise.all(disks.map((disk) => this.#with(disk, write, busy)));
    return done.filter((one) => one).length;
  }

  async #readAll(disks: readonly BoardDisk[], block: number, busy = new Set<string>()): Promise<Buffer[]> {
    const position = LAYOUT.reserved + block * BLOCK_BYTES;
    const reads = disks.map(async (disk) => {
      const bytes = Buffer.alloc(BLOCK_BYTES);
      return (await this.#with(disk, (device) => device.read(bytes, position), busy)) ? bytes : null;
    });
    return (await Promise.all(reads)).filter((bytes) => bytes !== null);
  }

  /** @param busy  names the disk while the action runs. @returns whether it was done */
  async #with(
    { path }: BoardDisk,
    action: (device: BlockDevice) => Promise<void>,
    busy: Set<string>,
  ): Promise<boolean> {
    busy.add(path);
    try {
      await action(await this.#device(path));
      return true;
    } catch (error) {
      this.parts.log.debug({ disk: path, error: messageOf(error) }, "the reserved area of a disk cannot be used");
      await this.#drop(path);
      return false;
    } finally {
      busy.delete(path);
    }
  }

  async #device(path: string): Promise<BlockDevice> {
    const known = this.#devices.get(path);
    if (known !== undefined) return known;
    const opened = await this.parts.open(path);
    const other = this.#devices.get(path);
    if (other !== undefined) await opened.close();
    else this.#devices.set(path, opened);
    return other ?? opened;
  }

  async #drop(path: string): Promise<void> {
    const device = this.#devices.get(path);
    this.#devices.delete(path);
    await device?.close().catch(() => {});
  }
}
