import { StorageError } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import type { DiskDescription, LabelledDisk } from "../raid/contract.js";
import { type DiskShelf, pad } from "./disk-shelf.js";
import { standingOf } from "./disk-standing.js";
import type { GroupRoster } from "./group-roster.js";
import { bySize } from "./spare-keeper.js";

interface Sources {
  readonly shelf: DiskShelf;
  readonly groups: GroupRoster;
}

/**
 * A disk on the shelf by its number, whatever its label says of groups.
 * @throws StorageError ENOENT; EBUSY when it is a member; EINVAL when two disks have the number (one came from another cabinet)
 */
export function shelvedDisk({ shelf, groups }: Sources, number: number): LabelledDisk {
  const member = groups.member(number);
  // Those of a group that could not be put together lie on the shelf.
  if (member !== undefined && member.described.state !== "failed") {
    throw new StorageError("EBUSY", `disk #${pad(number)} is in group ${member.described.name}`);
  }
  if (shelf.isTaken(number)) throw new StorageError("EBUSY", `disk #${pad(number)} is in a shared group`);
  const [disk, twin] = shelf.labelled().filter((one) => one.number === number);
  if (disk === undefined) throw new StorageError("ENOENT", `there is no disk #${pad(number)}`);
  if (twin === undefined) return disk;
  const places = `${disk.device.name} and ${twin.device.name}`;
  throw new StorageError(
    "EINVAL",
    `${places} are both disk #${pad(number)}: disk add --force PATH makes one a new disk`,
  );
}

/** A disk that a group can be given. @throws StorageError as `shelvedDisk`; EBUSY when its label names a group */
export function unusedDisk(sources: Sources, number: number): LabelledDisk {
  const disk = shelvedDisk(sources, number);
  const standing = standingOf(disk, sources.groups);
  if (standing.kind === "loose") return disk;
  const name = `disk #${pad(number)}`;
  if (standing.kind === "unassembled") {
    throw new StorageError("EBUSY", `${name} belongs to group ${standing.groupName}, which is not assembled`);
  }
  const text = `${name} still has the label of group ${standing.described.name}, where another disk has its place`;
  throw new StorageError("EBUSY", `${text}: disk add --force ${disk.device.name} makes it a new disk`);
}

/** For a place in a group: the smallest spare that is as large as its members, else the smallest unused disk. @throws StorageError ENOSPC */
export function replacementFor(members: readonly DiskDescription[], shelf: DiskShelf): LabelledDisk {
  const least = Math.min(...members.map(({ sizeBytes }) => sizeBytes));
  const fit = shelf.labelled().filter((disk) => disk.groupUuid === undefined && disk.device.sizeBytes >= least);
  const [spare] = bySize(fit.filter((disk) => disk.spare === true));
  const [unused] = bySize(fit);
  const chosen = spare ?? unused;
  if (chosen !== undefined) return chosen;
  throw new StorageError(
    "ENOSPC",
    `there is no spare or unused disk of at least ${formatSize(least)}: add one, or name one (--with)`,
  );
}
