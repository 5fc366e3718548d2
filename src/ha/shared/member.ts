import type { BlockDevice } from "../../device/device.js";
import type { LabelMember } from "../../raid/label.js";

/** online: there and used. missing: not found, or pulled out. failed: gave an error; it is let go, and may be brought back. */
export type SharedMemberState = "online" | "missing" | "failed";

/** A disk of a shared group. Its state is what this node sees; nothing of it is on the labels. */
export interface SharedMember {
  readonly slot: number;
  /** Another one when the disk was replaced. */
  label: LabelMember;
  /** null unless online. */
  device: BlockDevice | null;
  state: SharedMemberState;
  /** Why it is not online, for people. */
  reason: string | null;
}
