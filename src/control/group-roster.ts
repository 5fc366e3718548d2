import { StorageError } from "../lib/errors.js";
import type { LuDescription } from "../lu/lu.js";
import type { DiskDescription, Group, GroupDescription } from "../raid/contract.js";

/** A group with what it says of itself at this moment. */
export interface DescribedGroup {
  readonly group: Group;
  readonly described: GroupDescription;
}

/** The groups of a cabinet, found as people name them. */
export class GroupRoster {
  readonly #groups = new Map<string, Group>();

  add(uuid: string, group: Group): void {
    this.#groups.set(uuid, group);
  }

  remove(uuid: string): void {
    this.#groups.delete(uuid);
  }

  has(uuid: string): boolean {
    return this.#groups.has(uuid);
  }

  get(uuid: string): Group | undefined {
    return this.#groups.get(uuid);
  }

  all(): Group[] {
    return [...this.#groups.values()];
  }

  entries(): [string, Group][] {
    return [...this.#groups];
  }

  find(name: string): Group | undefined {
    return this.all().find((group) => group.describe().name === name);
  }

  /** Without a name: the only group. @throws StorageError ENOENT; EINVAL when there are several */
  named(name: string | undefined): Group {
    if (name !== undefined) {
      const group = this.find(name);
      if (group === undefined) throw new StorageError("ENOENT", `there is no group ${name}`);
      return group;
    }
    const [only, second] = this.all();
    if (only === undefined) throw new StorageError("ENOENT", "there is no group yet: create one first");
    if (second !== undefined) throw new StorageError("EINVAL", "there are several groups: say which (--group)");
    return only;
  }

  /** The groups that are served. */
  open(): DescribedGroup[] {
    return this.all()
      .map((group) => ({ group, described: group.describe() }))
      .filter(({ described }) => described.state !== "failed");
  }

  /** The member that has this number, and its group. */
  member(number: number): (DescribedGroup & { readonly member: DiskDescription }) | undefined {
    for (const group of this.all()) {
      const described = group.describe();
      const member = described.disks.find((disk) => disk.number === number);
      if (member !== undefined) return { group, described, member };
    }
    return undefined;
  }
}

/** By name, or by number with or without #. @throws StorageError ENOENT */
export function findLu(group: Group, nameOrNumber: string): LuDescription {
  const { lus, name } = group.describe();
  const found = lus.find((lu) => lu.name === nameOrNumber || String(lu.number) === nameOrNumber.replace(/^#/, ""));
  if (found === undefined) throw new StorageError("ENOENT", `there is no LU ${nameOrNumber} in group ${name}`);
  return found;
}
