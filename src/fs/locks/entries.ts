import type { LockOwner } from "./contract.js";
import type { LockedRange } from "./range.js";

/** An owner that has something in the lock book: one object for each, so that owners are compared by identity. */
export interface Party {
  /** Equal for one owner only. */
  readonly key: string;
  readonly owner: LockOwner;
}

interface Entry {
  readonly id: number;
  readonly ino: number;
  readonly who: Party;
}

export interface Held extends Entry, LockedRange {
  readonly kind: "held";
  /** False once it is gone: whoever remembers it as being in the way looks again. */
  live: boolean;
}

export interface Waiting extends Entry, LockedRange {
  readonly kind: "waiting";
  /** What the request left to be handed back. */
  readonly note: Buffer;
  /** The lock that it was given, which the client has not confirmed: it stands beside what the owner holds, and joins that once it is. */
  offer: Held | null;
  /** What was in its way when it was last looked at. */
  blocker: Held | null;
}

export interface Reservation extends Entry {
  readonly kind: "share";
  readonly access: number;
  readonly deny: number;
}

export type LockEntry = Held | Waiting | Reservation;

export function keyOf({ address, host, svid, oh }: LockOwner): string {
  return `${oh.toString("hex")} ${svid} ${address} ${host}`;
}
