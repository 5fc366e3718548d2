import type { BlockDevice } from "../device/device.js";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { BLOCK_BYTES } from "../lib/units.js";
import { LAYOUT } from "../raid/layout.js";
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

export interface LeaseView {
  /** What a majority of the members holds, or the newest that any holds when there is none such. */
  readonly lease: Lease | null;
  /** No epoch above this was ever given out, as far as the members that can be read know. */
  readonly highestEpoch: number;
}

/** The reserved areas of all disks: where two nodes leave word for each other. A disk that fails is passed over, and opened anew the next time. */
export class Board {
  #disks: readonly BoardDisk[] = [];
  readonly #devices = new Map<string, BlockDevice>();
  /** Disks that have not answered the last heartbeat, or question for one: they are not asked again meanwhile, and hold nothing up. */
  readonly #writing = new Set<string>();
  readonly #reading = new Set<string>();

  constructor(private readonly parts: BoardParts) {}

  get diskCount(): number {
    return this.#disks.length;
  }

  async setDisks(disks: readonly BoardDisk[]): Promise<void> {
    this.#disks = disks;
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

  /** What each readable disk holds of a node; a disk without one is left out. */
  async readHeartbeats(slot: number): Promise<Heartbeat[]> {
    const disks = this.#disks.filter(({ path }) => !this.#reading.has(path));
    const blocks = await this.#readAll(disks, HEARTBEAT_BLOCK + slot, this.#reading);
    return blocks.flatMap((block) => decodeHeartbeat(block) ?? []);
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
   * @param memberCount  of the group, found or not
   * @throws StorageError EIO when it is not on a majority: then it does not count
   */
  async writeLease(value: Lease, memberCount: number): Promise<void> {
    const members = this.#membersOf(value.group);
    const written = await this.#writeAll(members, LEASE_BLOCK + (value.epoch % 2), encodeLease(value), true);
    if (written * 2 > memberCount) return;
    throw new StorageError("EIO", `the lease is on ${written} of ${memberCount} disks, which is no majority`);
  }

  async readLease(group: string, memberCount: number): Promise<LeaseView> {
    const found: Lease[] = [];
    for (const slot of [0, 1]) {
      const blocks = await this.#readAll(this.#membersOf(group), LEASE_BLOCK + slot);
      found.push(...blocks.flatMap((block) => decodeLease(block) ?? []).filter((lease) => lease.group === group));
    }
    found.sort((a, b) => b.epoch - a.epoch || b.sequence - a.sequence);
    const held = found.find((lease) => found.filter((other) => sameLease(lease, other)).length * 2 > memberCount);
    return { lease: held ?? found[0] ?? null, highestEpoch: found[0]?.epoch ?? 0 };
  }

  async close(): Promise<void> {
    this.#disks = [];
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

function sameLease(a: Lease, b: Lease): boolean {
  return a.epoch === b.epoch && a.sequence === b.sequence && a.owner === b.owner && a.state === b.state;
}
