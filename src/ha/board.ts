import type { BlockDevice } from "../device/device.js";
import { type Clock, pause } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
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
import { ReservedArea } from "./reserved-area.js";

/** When enough disks have answered to decide by, the others get so much longer: they say more, and nobody waits for one that is slow. */
const GRACE_MS = 50;
/** At the end, requests under way get so long. */
const CLOSE_MS_MAX = 2000;

/** A disk that both nodes see. */
export interface BoardDisk {
  readonly path: string;
  /** UUID of the group that it is a member of; null: of none. */
  readonly group: string | null;
}

export interface BoardParts {
  /** For reading and writing, without a lock: the reserved area is written by both nodes, each its own blocks. */
  readonly open: (path: string) => Promise<BlockDevice>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether what is written must be on the disk before it counts: the partner is on another host. */
  readonly durable: () => boolean;
  /** For the simulator, which must notice: every round waits for the slowest disk, and asks it again meanwhile. */
  readonly withoutHaste?: boolean | undefined;
}

/** The newest lease of a group that each of two nodes has written. */
export interface LeaseView {
  readonly own: Lease | null;
  readonly other: Lease | null;
}

/**
 * The reserved areas of all disks: where two nodes leave word for each other. A disk that fails is passed over, and opened anew the next time. No round
 * waits for the slowest disk: it is over when so many have answered that the others cannot change what follows from it.
 */
export class Board {
  #disks: readonly BoardDisk[] = [];
  #diskCount = 0;
  readonly #areas = new Map<string, ReservedArea>();

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
  setDisks(disks: readonly BoardDisk[], diskCount = disks.length): void {
    this.#disks = disks;
    this.#diskCount = Math.max(diskCount, disks.length);
    const wanted = new Set(disks.map(({ path }) => path));
    for (const [path, area] of this.#areas) {
      if (wanted.has(path)) continue;
      this.#areas.delete(path);
      void area.close();
    }
  }

  /**
   * A disk that has not answered an earlier heartbeat is left alone. What it has taken by now counts, whichever round it was asked in.
   * @param beganMs  when the heartbeat was made, by our clock
   * @returns when the youngest heartbeat began that a majority of the disks holds, or a younger one in its place; -Infinity: there is none
   */
  async writeHeartbeat(slot: number, value: Heartbeat, beganMs: number): Promise<number> {
    const block = HEARTBEAT_BLOCK + slot;
    const bytes = encodeHeartbeat(value);
    const durable = this.parts.durable();
    const asked = this.#areasOf(this.#disks).filter((area) => !area.isWriting(block));
    const writes = asked.map(async (area) => {
      if (!(await area.write(block, bytes, durable))) return null;
      area.takenMs = Math.max(area.takenMs, beganMs);
      return area;
    });
    await this.#gather(writes, () => this.#heardMs() >= beganMs, 0);
    return this.#heardMs();
  }

  /** Of the times at which the disks' heartbeats began the youngest that a majority has reached. */
  #heardMs(): number {
    const taken = this.#areasOf(this.#disks).map(({ takenMs }) => takenMs);
    taken.sort((a, b) => b - a);
    return taken[majorityOf(this.#diskCount) - 1] ?? Number.NEGATIVE_INFINITY;
  }

  async readHeartbeats(slot: number): Promise<Sighting> {
    const block = HEARTBEAT_BLOCK + slot;
    const asked = this.#areasOf(this.#disks).filter((area) => !area.isReading(block));
    const blocks = await this.#gather(
      asked.map((area) => area.read(block)),
      ({ length }) => length >= toSeeAny(this.#diskCount),
    );
    const found = blocks.flatMap((bytes) => decodeHeartbeat(bytes) ?? []);
    return { found, readCount: blocks.length, diskCount: this.#diskCount };
  }

  /** Disks that hold no heartbeat of the node as young as `sequence`; one that does not answer in time is not among them. */
  async disksWithout(slot: number, sequence: number): Promise<string[]> {
    const looks = this.#areasOf(this.#disks).map(async (area) => {
      const block = await area.read(HEARTBEAT_BLOCK + slot);
      const found = block === null ? null : decodeHeartbeat(block);
      return { path: area.path, lacks: block !== null && (found === null || found.sequence < sequence) };
    });
    const seen = await this.#gather(looks, ({ length }) => length >= toSeeAny(this.#diskCount));
    return seen.flatMap(({ path, lacks }) => (lacks ? [path] : []));
  }

  /**
   * On the members of its group. Durable on a majority when it resolves.
   * @param slot  of the node that writes it
   * @param memberCount  of the group, found or not
   * @throws StorageError EIO when it is not on a majority: then it may count, or not
   */
  async writeLease(slot: number, value: Lease, memberCount: number): Promise<void> {
    const bytes = encodeLease(value);
    const writes = this.#areasOf(this.#membersOf(value.group)).map(
      async (area) => (await area.write(LEASE_BLOCK + slot, bytes, true)) || null,
    );
    const { length } = await this.#gather(writes, (written) => written.length >= majorityOf(memberCount));
    if (length * 2 > memberCount) return;
    throw new StorageError("EIO", `the lease is on ${length} of ${memberCount} disks, which is no majority`);
  }

  /**
   * What any member holds counts, also when it is no majority: a claim may be on its way, and what is released is let go of for good. A lease that is on a
   * majority is always seen.
   * @throws StorageError EIO when so few members can be read that one could be missed
   */
  async readLease(group: string, memberCount: number, slots: { own: number; other: number }): Promise<LeaseView> {
    const members = this.#areasOf(this.#membersOf(group));
    const [own, other] = await Promise.all([
      this.#newestLease(members, group, slots.own, memberCount),
      this.#newestLease(members, group, slots.other, memberCount),
    ]);
    return { own, other };
  }

  async #newestLease(
    members: readonly ReservedArea[],
    group: string,
    slot: number,
    memberCount: number,
  ): Promise<Lease | null> {
    const blocks = await this.#gather(
      members.map((area) => area.read(LEASE_BLOCK + slot)),
      ({ length }) => length >= toSeeAny(memberCount),
    );
    if (blocks.length < toSeeAny(memberCount)) {
      throw new StorageError("EIO", `only ${blocks.length} of ${memberCount} disks can be asked for the lease`);
    }
    const found = blocks.flatMap((block) => decodeLease(block) ?? []).filter((lease) => lease.group === group);
    found.sort((a, b) => b.epoch - a.epoch || b.sequence - a.sequence);
    return found[0] ?? null;
  }

  async close(): Promise<void> {
    const areas = [...this.#areas.values()];
    this.setDisks([]);
    const closed = Promise.all(areas.map((area) => area.close()));
    await Promise.race([closed, pause(this.parts.clock, CLOSE_MS_MAX)]);
  }

  #membersOf(group: string): BoardDisk[] {
    return this.#disks.filter((disk) => disk.group === group);
  }

  #areasOf(disks: readonly BoardDisk[]): ReservedArea[] {
    return disks.map(({ path }) => {
      const known = this.#areas.get(path);
      if (known !== undefined) return known;
      const { open, log, withoutHaste } = this.parts;
      const area = new ReservedArea(path, { open, log, asksAgain: withoutHaste });
      this.#areas.set(path, area);
      return area;
    });
  }

  /**
   * The answers of a round: of all when all have come, or of those that came until enough had and a moment after that.
   * @param asks  null: there is no answer; none rejects
   */
  #gather<T>(asks: readonly Promise<T | null>[], enough: (answers: readonly T[]) => boolean, graceMs = GRACE_MS) {
    const answers: T[] = [];
    return new Promise<T[]>((resolve) => {
      let left = asks.length;
      let isEnough = this.parts.withoutHaste === true;
      const end = (): void => resolve([...answers]);
      if (left === 0) end();
      for (const ask of asks) {
        void ask.then((answer) => {
          if (answer !== null) answers.push(answer);
          if (--left === 0) end();
          else if (!isEnough && enough(answers)) {
            isEnough = true;
            if (graceMs === 0) end();
            else this.parts.clock.after(graceMs, end);
          }
        });
      }
    });
  }
}

function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}

/** Of any majority, one at least is among so many. */
function toSeeAny(count: number): number {
  return count - majorityOf(count) + 1;
}
