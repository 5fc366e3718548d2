import { type Clock, pause, wallMs } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Board, LeaseView } from "./board.js";
import type { SeenGroup } from "./contract.js";
import type { Lease } from "./record.js";

/** So often a claim that is higher than the other's looks whether that one has given way. */
const GIVE_WAY_TRIES = 10;
const GIVE_WAY_MS = 50;

export interface LeaseKeeperParts {
  readonly board: Board;
  readonly node: string;
  readonly partner: string;
  readonly clock: Clock;
}

/** chn1..chn8 have blocks 0 to 7. */
export function slotOf(node: string): number {
  return Number(node.slice(3)) - 1;
}

/** Who has a group, by what two nodes have written: nobody has ever had it, this node was the last, the other had it and let it go, or the other may have it. */
export type Standing = "never" | "ours" | "released" | "theirs";

/** @param letGo  up to this epoch the other says that it has nothing any more, wherever it could say so */
export function standingOf({ own, other }: LeaseView, letGo = 0): Standing {
  const ours = own?.heldEpoch ?? 0;
  const theirs = other?.heldEpoch ?? 0;
  // It is about to have it, or has given up in the middle: whether it lives is to be found out.
  const isOver = (other?.epoch ?? 0) <= letGo;
  if (other?.state === "claimed" && !isOver) return "theirs";
  if (ours === 0 && theirs === 0) return "never";
  if (ours > theirs) return "ours";
  return other?.state === "held" && !isOver ? "theirs" : "released";
}

/**
 * The leases of one node. Each node writes its own block only, first its claim, and then reads the other's: of two that claim at once at least one sees
 * the other (each is on a majority of the disks), however late a write arrives. The lower claim gives way; the higher one waits for that, and
 * gives way itself when the other does not: it may have looked before.
 */
export class LeaseKeeper {
  /** Rises with every write; by group. */
  readonly #sequences = new Map<string, number>();
  /** The highest under which we have had it; by group. */
  readonly #heldEpochs = new Map<string, number>();

  constructor(private readonly parts: LeaseKeeperParts) {}

  /** @throws StorageError EIO when too few disks can be asked */
  async read({ uuid, memberCount }: SeenGroup): Promise<LeaseView> {
    const { board, node, partner } = this.parts;
    const view = await board.readLease(uuid, memberCount, { own: slotOf(node), other: slotOf(partner) });
    this.#heldEpochs.set(uuid, Math.max(this.#heldEpochs.get(uuid) ?? 0, view.own?.heldEpoch ?? 0));
    this.#sequences.set(uuid, Math.max(this.#sequences.get(uuid) ?? 0, (view.own?.sequence ?? -1) + 1));
    return view;
  }

  /** @throws StorageError EIO when it is not on a majority */
  async write({ uuid, memberCount }: SeenGroup, epoch: number, state: Lease["state"], reason: string): Promise<void> {
    const { board, node, clock } = this.parts;
    const sequence = this.#sequences.get(uuid) ?? 0;
    this.#sequences.set(uuid, sequence + 1);
    if (state === "held") this.#heldEpochs.set(uuid, epoch);
    const heldEpoch = this.#heldEpochs.get(uuid) ?? 0;
    const lease = { group: uuid, epoch, sequence, owner: node, state, heldEpoch, reason, wallMs: wallMs(clock) };
    await board.writeLease(slotOf(node), lease, memberCount);
  }

  /** What was claimed or held under this epoch is not any more. @throws StorageError EIO */
  release(seen: SeenGroup, epoch: number, reason: string): Promise<void> {
    const held = this.#heldEpochs.get(seen.uuid) === epoch;
    return this.write(seen, epoch, held ? "released" : "withdrawn", reason);
  }

  /**
   * This node does not have the group, and must not seem to: what it claimed or held and could not release, or a process of its before this one, is let
   * go. Without that two nodes would each wait for the other to fall silent.
   * @throws StorageError EIO
   */
  async tidy(seen: SeenGroup): Promise<void> {
    const { own } = await this.read(seen);
    if (own?.state === "claimed" || own?.state === "held") await this.release(seen, own.epoch, "left over");
  }

  /**
   * Have the group under a new epoch.
   * @param basis  the leases because of which it is taken: nobody may have claimed it since. null: our locks keep everybody else away
   * @param begun  called with the epoch as soon as it may count
   * @throws StorageError EBUSY when another claim comes first, EIO
   */
  async take(seen: SeenGroup, reason: string, basis: LeaseView | null, begun: (epoch: number) => void): Promise<void> {
    const { own, other } = await this.read(seen);
    const epoch = Math.max(own?.epoch ?? 0, other?.epoch ?? 0, seen.epoch) + 1;
    begun(epoch);
    if (basis !== null) {
      await this.write(seen, epoch, "claimed", reason);
      await this.#confirm(seen, epoch, basis);
    }
    await this.write(seen, epoch, "held", reason);
  }

  /** Our claim is written: does it stand? */
  async #confirm(seen: SeenGroup, epoch: number, basis: LeaseView): Promise<void> {
    for (let tries = 0; tries < GIVE_WAY_TRIES; tries++) {
      const claim = await this.#newClaim(seen, basis);
      if (claim === null) return;
      if (claim.state === "held" || this.#isBelow(epoch, claim)) break;
      await pause(this.parts.clock, GIVE_WAY_MS);
    }
    const { partner } = this.parts;
    throw new StorageError("EBUSY", `group ${seen.name} was claimed by ${partner} at the same moment`);
  }

  /** What the other node has claimed since `basis` was read; null: nothing. */
  async #newClaim(seen: SeenGroup, basis: LeaseView): Promise<Lease | null> {
    const { other } = await this.read(seen);
    if (other === null || other.state === "released" || other.state === "withdrawn") return null;
    const same = other.epoch === basis.other?.epoch && other.sequence === basis.other.sequence;
    return same ? null : other;
  }

  #isBelow(epoch: number, claim: Lease): boolean {
    return epoch < claim.epoch || (epoch === claim.epoch && this.parts.node > claim.owner);
  }
}
