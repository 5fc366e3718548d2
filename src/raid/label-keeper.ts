import type { BlockDevice } from "../device/device.js";
import { must } from "../lib/assert.js";
import type { GroupRecord, LabelFormer, LabelLu, LabelMember } from "./label.js";
import { writeLabel } from "./label-io.js";
import { LIVES_MAX } from "./limits.js";
import type { Lineage } from "./lineage.js";
import type { LostBlocks } from "./lost-blocks.js";
import type { Member } from "./member.js";

export interface LabelKeeperOptions {
  readonly members: readonly Member[];
  readonly lost: LostBlocks;
  /** Random, of this life of the group. */
  readonly life: string;
  /** @throws StorageError ESTALE when this node is no longer the owner */
  readonly guard: () => void;
  readonly epoch: () => number;
  /** @throws StorageError EIO when more members are lost than the group can bear */
  readonly assertAlive: () => void;
}

/**
 * What the labels of a group say, and the one writer of them: two changes never interleave on the disks. Whoever changes the record
 * waits until it, or a later one, is durable on every member that takes writes.
 *
 * The first write of each life, and every change of members or LUs, raises the generation, in two steps (lineage.ts): whoever waits, waits for both.
 */
export class LabelKeeper {
  record: GroupRecord;
  readonly #options: LabelKeeperOptions;
  #sequence: number;
  #savesWanted = 0;
  #saving: Promise<void> | null = null;
  /** This life has a generation of its own. */
  #begun = false;
  #raiseWanted = false;
  /** What is being written says nothing new. */
  #quiet = false;
  /** Every member that takes writes has a label of this generation, or of a later one. */
  #confirmed: number;

  constructor(record: GroupRecord, sequence: number, options: LabelKeeperOptions) {
    this.record = record;
    this.#sequence = sequence;
    this.#options = options;
    this.#confirmed = record.lineage.wholeFrom;
  }

  get lus(): readonly LabelLu[] {
    return this.record.lus;
  }

  /** null: nothing is being written that anybody has to wait for. */
  get settled(): Promise<void> | null {
    return this.#quiet ? null : this.#saving;
  }

  /** A new member's label may carry a higher sequence than ours: its next one must be higher still. */
  passSequence(sequence: number): void {
    this.#sequence = Math.max(this.#sequence, sequence);
  }

  /** Raise the generation, with or without a change: a disk that is put back as it was before is behind from then on. */
  async change(change: Partial<GroupRecord>): Promise<void> {
    this.record = { ...this.record, ...change };
    this.#raiseWanted = true;
    await this.save();
  }

  /** Write the record as it is now; resolves when it, or a later one, is durable. */
  save(): Promise<void> {
    this.#quiet = false;
    return this.#startSave();
  }

  /** Raise the generation, although nothing has changed; nobody's flush waits for it. */
  async stamp(): Promise<void> {
    if (this.#saving === null) this.#quiet = true;
    this.#raiseWanted = true;
    await this.#startSave();
  }

  #startSave(): Promise<void> {
    this.#savesWanted++;
    this.#saving ??= this.#saveLoop().finally(() => {
      this.#saving = null;
      this.#quiet = false;
    });
    return this.#saving;
  }

  async #saveLoop(): Promise<void> {
    const { guard, assertAlive } = this.#options;
    for (let done = 0; done !== this.#savesWanted || !this.#isConfirmed; ) {
      done = this.#savesWanted;
      guard();
      this.#refresh();
      await this.#write();
      // One that cannot be confirmed any more is left as it is: the labels of those that are left must not condemn each other.
      assertAlive();
    }
  }

  get #isConfirmed(): boolean {
    return this.record.lineage.wholeFrom === this.record.generation;
  }

  async #write(): Promise<void> {
    const { members } = this.#options;
    const sequence = ++this.#sequence;
    const group = this.record;
    const written = members.filter((member) => member.takesWrites);
    await Promise.all(written.map((member) => saveLabel(member, sequence, group)));
    // Who came in meanwhile has not got it.
    if (members.every((member) => !member.takesWrites || written.includes(member))) this.#confirmed = group.generation;
  }

  /** Members and their states as they are now; a change raises the generation. */
  #refresh(): void {
    const before = this.record.members;
    const members = this.#options.members.map((member, slot) => this.#entryOf(member, before[slot]));
    const changed =
      members.length !== before.length ||
      members.some(({ state, uuid }, i) => state !== before[i]!.state || uuid !== before[i]!.uuid);
    const lineage = this.#lineage(changed);
    const lost = this.#options.lost.list();
    this.record = { ...this.record, members, lost, ...lineage, ownerEpoch: this.#options.epoch() };
  }

  #entryOf(member: Member, before: LabelMember | undefined): LabelMember {
    const { label, state, device, takesWrites } = member;
    const { sizeBytes = label.sizeBytes, name: path = label.path } = device ?? {};
    const unbuiltBytes = state === "online" ? 0 : label.unbuiltBytes;
    const own = before?.uuid === label.uuid ? before : undefined;
    const partedFrom = takesWrites ? 0 : partedFromOf(own, this.record);
    return { ...label, state, unbuiltBytes, partedFrom, former: formerOf(member), sizeBytes, path };
  }

  #lineage(changed: boolean): { generation: number; lineage: Lineage } {
    const raise = changed || this.#raiseWanted || !this.#begun;
    const generation = this.record.generation + (raise ? 1 : 0);
    const lives = [...this.record.lineage.lives];
    if (!this.#begun) lives.push({ id: this.#options.life, generation });
    this.#raiseWanted = false;
    this.#begun = true;
    const wholeFrom = Math.max(this.record.lineage.wholeFrom, this.#confirmed);
    return { generation, lineage: { wholeFrom, lives: lives.slice(-LIVES_MAX) } };
  }
}

/**
 * The lowest generation that the own label of a member has which is as it was when it took its last write.
 * @param before  its entry in `record`
 */
export function partedFromOf(before: LabelMember | undefined, { lineage }: Pick<GroupRecord, "lineage">): number {
  const parted = before !== undefined && before.state !== "online" && before.state !== "rebuilding";
  return parted ? before.partedFrom : lineage.wholeFrom;
}

/** Known as a source until the work is done, over restarts, too. One of which it is not known how it left is none. */
function formerOf({ state, former }: Member): LabelFormer | null {
  if (state !== "rebuilding" || former === null) return null;
  const labels = former.labels();
  return labels.length === 0 ? null : { uuid: former.uuid, number: former.number, labels };
}

async function saveLabel(member: Member, sequence: number, group: GroupRecord): Promise<void> {
  const device: BlockDevice = must(member.device, "a member that takes writes has a device");
  const { uuid, number } = member.label;
  const written = { generation: group.generation, sequence };
  member.lastLabels = [...member.lastLabels.slice(-1), written];
  try {
    const label = { uuid, number, sequence, sizeBytes: device.sizeBytes, slot: member.slot, group };
    await member.unlessLeftOut(() => writeLabel(device, label));
    if (member.takesWrites) member.lastLabels = [written];
  } catch (error) {
    member.fail(error);
  }
}
