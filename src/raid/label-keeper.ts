import type { BlockDevice } from "../device/device.js";
import { must } from "../lib/assert.js";
import type { LastLabel } from "./former.js";
import type { GroupRecord, LabelLu } from "./label.js";
import { writeLabel } from "./label-io.js";
import type { LostBlocks } from "./lost-blocks.js";
import type { Member } from "./member.js";

export interface LabelKeeperOptions {
  readonly members: readonly Member[];
  readonly lost: LostBlocks;
  /** @throws StorageError ESTALE when this node is no longer the owner */
  readonly guard: () => void;
  readonly epoch: () => number;
  /** @throws StorageError EIO when more members are lost than the group can bear */
  readonly assertAlive: () => void;
}

/**
 * What the labels of a group say, and the one writer of them: two changes never interleave on the disks. Whoever changes the record
 * waits until it, or a later one, is durable on every member that takes writes.
 */
export class LabelKeeper {
  record: GroupRecord;
  readonly #options: LabelKeeperOptions;
  #sequence: number;
  #savesWanted = 0;
  #saving: Promise<void> | null = null;

  constructor(record: GroupRecord, sequence: number, options: LabelKeeperOptions) {
    this.record = record;
    this.#sequence = sequence;
    this.#options = options;
  }

  get lus(): readonly LabelLu[] {
    return this.record.lus;
  }

  /** How the labels stand that were written last. */
  last: LastLabel | null = null;

  /** null: nothing is being written. */
  get settled(): Promise<void> | null {
    return this.#saving;
  }

  /** A new member's label may carry a higher sequence than ours: its next one must be higher still. */
  passSequence(sequence: number): void {
    this.#sequence = Math.max(this.#sequence, sequence);
  }

  /** Change members or LUs: raises the generation. */
  async change(change: Partial<GroupRecord>): Promise<void> {
    this.record = { ...this.record, ...change, generation: this.record.generation + 1 };
    await this.save();
  }

  /** Write the record as it is now; resolves when it, or a later one, is durable. */
  save(): Promise<void> {
    this.#savesWanted++;
    this.#saving ??= this.#saveLoop().finally(() => {
      this.#saving = null;
    });
    return this.#saving;
  }

  async #saveLoop(): Promise<void> {
    const { members, guard, assertAlive } = this.#options;
    for (let done = 0; done !== this.#savesWanted; ) {
      done = this.#savesWanted;
      guard();
      this.#refresh();
      const sequence = ++this.#sequence;
      const group = this.record;
      await Promise.all(members.map((member) => saveLabel(member, sequence, group)));
      this.last = { generation: group.generation, sequence };
    }
    assertAlive();
  }

  /** Members and their states as they are now; a change raises the generation. */
  #refresh(): void {
    const members = this.#options.members.map(({ label, state, device }) => ({
      ...label,
      state,
      ...(state === "online" ? { unbuiltBytes: 0 } : {}),
      sizeBytes: device?.sizeBytes ?? label.sizeBytes,
      path: device?.name ?? label.path,
    }));
    const before = this.record.members;
    const changed =
      members.length !== before.length ||
      members.some(({ state, uuid }, i) => state !== before[i]!.state || uuid !== before[i]!.uuid);
    const generation = this.record.generation + (changed ? 1 : 0);
    const lost = this.#options.lost.list();
    this.record = { ...this.record, members, lost, generation, ownerEpoch: this.#options.epoch() };
  }
}

async function saveLabel(member: Member, sequence: number, group: GroupRecord): Promise<void> {
  if (!member.takesWrites) return;
  const device: BlockDevice = must(member.device, "a member that takes writes has a device");
  const { uuid, number } = member.label;
  try {
    await writeLabel(device, { uuid, number, sequence, sizeBytes: device.sizeBytes, slot: member.slot, group });
  } catch (error) {
    member.fail(error);
  }
}
