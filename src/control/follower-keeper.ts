import { rm } from "node:fs/promises";
import path from "node:path";
import type { BlockDevice } from "../device/device.js";
import { type CancelTimer, type Clock, pause } from "../lib/clock.js";
import { messageOf, operatingError } from "../lib/errors.js";
import type { Logger } from "../lib/log.js";
import { WarmCopy, type WarmPages } from "../pagestore/warm-copy.js";
import { FollowedLu } from "../raid/followed-lu.js";
import type { GroupRecord, LabelLu } from "../raid/label.js";
import { readLabel } from "../raid/label-io.js";
import { isBehind } from "../raid/lineage.js";

export interface FollowerParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Where the copies lie. */
  readonly folder: string;
  /** For reading, without a lock. */
  readonly open: (path: string) => Promise<BlockDevice>;
  /** Groups that the partner serves, or that are being taken from it, by UUID. */
  readonly groups: () => ReadonlyMap<string, GroupToFollow>;
  /** Make ready whatever else a takeover needs. Called each round. */
  readonly prepare: () => void;
}

export interface GroupToFollow {
  /** Of its members. */
  readonly paths: readonly string[];
  /** It is not followed any more, but its copies are wanted. */
  readonly taking: boolean;
}

/** How often the log of a group that the partner serves is looked at; while nothing comes, as often as keeps the node that stands by quiet. */
const FOLLOW_MS = 250;
const IDLE_FOLLOW_MS = 1000;
/** After trouble, and to see that LUs were made or resized. */
const RENEW_MS = 5000;
/** What is still to be read for a copy holds a takeover up for so long at most: a disk may not answer. Without a copy all pages are read anew. */
const TAKE_MS_MAX = 2000;

/** A page store of a followed group. */
interface Followed {
  readonly lu: LabelLu;
  readonly copy: WarmCopy;
}

/** A group that the partner serves, with a warm copy of each page store on it. */
class FollowedGroup {
  #devices: (BlockDevice | null)[] = [];
  #followed: Followed[] = [];
  /** Members and LUs as they are followed; the generation rises also when none of them has changed. */
  #layout = "";
  #renewAtMs = 0;
  #round: Promise<number> | null = null;
  /** Copies that nobody waits for any more. */
  readonly #late: Promise<void>[] = [];
  #ended = false;
  /** A copy was asked for: the group changes hands, and none of them is touched from then on. */
  isTaken = false;

  constructor(
    private readonly parts: FollowerParts,
    private readonly paths: readonly string[],
  ) {}

  /** One look; a second call waits for the first. @returns how many records came */
  async follow(): Promise<number> {
    if (this.isTaken || this.#ended) return 0;
    this.#round ??= this.#follow().finally(() => {
      this.#round = null;
    });
    return await this.#round;
  }

  async take(luUuid: string, tailSeq: number): Promise<WarmPages | null> {
    this.isTaken = true;
    const taking = this.#take(luUuid, tailSeq);
    const inTime = taking.then(() => true);
    if (await Promise.race([inTime, pause(this.parts.clock, TAKE_MS_MAX).then(() => false)])) return await taking;
    this.#late.push(taking.then(drop));
    return null;
  }

  async #take(luUuid: string, tailSeq: number): Promise<WarmPages | null> {
    await this.#round;
    const found = this.#followed.find(({ lu }) => lu.uuid === luUuid);
    return (await found?.copy.take(tailSeq)) ?? null;
  }

  records(): ReadonlyMap<string, number> {
    return new Map(this.#followed.map(({ lu, copy }) => [lu.name, copy.nextSeq - 1]));
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#round;
    await Promise.all(this.#late);
    for (const { copy } of this.#followed) await copy.close();
    await this.#closeDevices();
  }

  async #follow(): Promise<number> {
    let records = 0;
    try {
      if (this.parts.clock.monotonicMs() >= this.#renewAtMs) await this.#renew();
      for (const { copy } of this.#followed) if (!this.#ended && !this.isTaken) records += await copy.follow();
    } catch (error) {
      if (operatingError(error) === null) throw error;
      this.parts.log.debug({ error: messageOf(error) }, "a group of the partner is not followed just now");
      this.#layout = "";
      this.#renewAtMs = this.parts.clock.monotonicMs() + RENEW_MS;
    }
    return records;
  }

  /** Labels first: which members are online, and what LUs there are. */
  async #renew(): Promise<void> {
    this.#renewAtMs = this.parts.clock.monotonicMs() + RENEW_MS;
    if (this.#devices.length === 0) this.#devices = await Promise.all(this.paths.map((place) => this.#open(place)));
    const labels = await Promise.all(
      this.#devices.map((device) => (device === null ? null : readLabel(device).catch(() => null))),
    );
    const records = labels.flatMap((label) => label?.group ?? []);
    const record = records.sort((a, b) => b.generation - a.generation)[0];
    if (record === undefined) return;
    const places = record.members.map(({ uuid, state }) => {
      const i = labels.findIndex((label) => label?.uuid === uuid);
      const own = labels[i]?.group;
      return state === "online" && own !== undefined && !isBehind(own, record.lineage.wholeFrom) ? i : -1;
    });
    const layout = JSON.stringify([places, record.lus]);
    if (layout === this.#layout) return;
    this.#layout = layout;
    await this.#setFollowed(
      record,
      places.map((i) => this.#devices[i] ?? null),
    );
  }

  async #setFollowed(record: GroupRecord, devices: readonly (BlockDevice | null)[]): Promise<void> {
    for (const { copy } of this.#followed.splice(0)) await copy.close();
    for (const lu of record.lus) {
      if (lu.level !== 1 || lu.moving !== undefined) continue;
      const file = path.join(this.parts.folder, `warm-${lu.uuid}.db`);
      this.#followed.push({ lu, copy: new WarmCopy(new FollowedLu(record, lu, devices), file) });
    }
  }

  async #open(place: string): Promise<BlockDevice | null> {
    return await this.parts.open(place).catch(() => null);
  }

  async #closeDevices(): Promise<void> {
    for (const device of this.#devices.splice(0)) await device?.close().catch(() => {});
  }
}

/** What follows this LU next makes its copy at the same place. */
async function drop(pages: WarmPages | null): Promise<void> {
  if (pages !== null) await rm(pages.file, { force: true }).catch(() => {});
}

/** Keeps this node warm: it reads along with what the partner commits, so that taking over is quick. */
export class FollowerKeeper {
  readonly #groups = new Map<string, FollowedGroup>();
  #cancel: CancelTimer = () => {};
  #ended = false;

  constructor(private readonly parts: FollowerParts) {}

  start(): void {
    this.#later(FOLLOW_MS);
  }

  #later(delayMs: number): void {
    this.#cancel = this.parts.clock.after(delayMs, () => void this.#tick());
  }

  async #setGroups(groups: ReadonlyMap<string, GroupToFollow>): Promise<void> {
    for (const [uuid, group] of this.#groups) {
      const wanted = groups.get(uuid);
      // One that was to be taken and was not: its copies are used up, and it is followed anew.
      if (wanted !== undefined && (wanted.taking || !group.isTaken)) continue;
      this.#groups.delete(uuid);
      await group.end();
    }
    for (const [uuid, { paths }] of groups) {
      if (!this.#groups.has(uuid) && !this.#ended) this.#groups.set(uuid, new FollowedGroup(this.parts, paths));
    }
  }

  /** The copy of a page store of a group that is being taken. */
  async take(group: string, luUuid: string, tailSeq: number): Promise<WarmPages | null> {
    return (await this.#groups.get(group)?.take(luUuid, tailSeq)) ?? null;
  }

  /** The last record that each page store of a group was followed to, by the name of its LU. */
  records(group: string): ReadonlyMap<string, number> {
    return this.#groups.get(group)?.records() ?? new Map();
  }

  async end(): Promise<void> {
    this.#ended = true;
    this.#cancel();
    await this.#setGroups(new Map());
  }

  async #tick(): Promise<void> {
    let records = 0;
    try {
      await this.#setGroups(this.parts.groups());
      for (const group of this.#groups.values()) records += await group.follow();
      if (this.#groups.size > 0) this.parts.prepare();
    } catch (error) {
      if (operatingError(error) === null) throw error;
      this.parts.log.warn({ error: messageOf(error) }, "the partner's groups are not followed just now");
    }
    if (!this.#ended) this.#later(records > 0 ? FOLLOW_MS : IDLE_FOLLOW_MS);
  }
}
