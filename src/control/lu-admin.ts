import { StorageError } from "../lib/errors.js";
import { formatSize } from "../lib/size.js";
import type { LuDescription } from "../lu/lu.js";
import type { Group } from "../raid/contract.js";
import { findLu } from "./group-roster.js";
import type { CabinetParts } from "./parts.js";
import { luRow } from "./rows.js";
import type { LuRow } from "./types.js";

export interface CreateLu {
  readonly name: string;
  readonly group?: string | undefined;
  readonly level: 1 | 5;
  readonly sizeBytes: number | "max";
}

export interface ResizeLu {
  readonly group?: string | undefined;
  readonly sizeBytes: number | "max";
  /** Give up what stands at the end of an LU that becomes smaller. */
  readonly force?: boolean;
}

/** Operations on LUs. */
export class LuAdmin {
  constructor(private readonly parts: CabinetParts) {}

  create(wanted: CreateLu): Promise<LuRow> {
    return this.parts.changes.run(async () => {
      const group = this.parts.groups.named(wanted.group);
      const lu = await group.createLu(wanted.name, wanted.level, wanted.sizeBytes);
      return this.#report("lu-created", group, lu, `created, RAID-${wanted.level}`);
    });
  }

  /** EBUSY while a file system is on it. */
  delete(groupName: string | undefined, nameOrNumber: string): Promise<LuRow> {
    return this.parts.changes.run(async () => {
      const group = this.parts.groups.named(groupName);
      const lu = findLu(group, nameOrNumber);
      const user = this.#userOf(group, lu);
      if (user !== undefined) throw new StorageError("EBUSY", `LU ${lu.name} carries file system ${user}`);
      await group.deleteLu(lu.number);
      return this.#report("lu-deleted", group, lu, "deleted");
    });
  }

  /** A file system on an LU that becomes larger uses all of it when this resolves. EBUSY when smaller would lose data. */
  resize(nameOrNumber: string, wanted: ResizeLu): Promise<LuRow> {
    return this.parts.changes.run(async () => {
      const group = this.parts.groups.named(wanted.group);
      const lu = findLu(group, nameOrNumber);
      this.#checkNoMetadata(group, lu);
      if (wanted.sizeBytes !== "max" && wanted.sizeBytes < smallestOf(group, lu)) this.#checkSmaller(group, lu, wanted);
      const resized = await group.resizeLu(lu.number, wanted.sizeBytes);
      if (resized.sizeBytes > lu.sizeBytes) await this.parts.fileSystems.grow(group.describe().name, lu.name);
      return this.#report("lu-resized", group, resized, `has ${formatSize(resized.sizeBytes)} now`);
    });
  }

  /** A page store keeps the geometry that it was made with. */
  #checkNoMetadata(group: Group, lu: LuDescription): void {
    const user = this.#userOf(group, lu);
    if (user === undefined || user === lu.name) return;
    throw new StorageError("EBUSY", `LU ${lu.name} holds the metadata of file system ${user}: its size cannot change`);
  }

  #checkSmaller(group: Group, lu: LuDescription, { force }: ResizeLu): void {
    const user = this.#userOf(group, lu);
    if (user !== undefined) {
      throw new StorageError("EBUSY", `LU ${lu.name} carries file system ${user}, which cannot become smaller`);
    }
    if (force === true) return;
    const text = `LU ${lu.name} has ${formatSize(lu.sizeBytes)}: what stands beyond the new end would be lost`;
    throw new StorageError("EBUSY", `${text}; --force insists`);
  }

  #userOf(group: Group, lu: LuDescription): string | undefined {
    return this.parts.fileSystems.userOf(group.describe().name, lu.name);
  }

  #report(kind: string, group: Group, lu: LuDescription, what: string): LuRow {
    const detail = { lu: lu.number, group: group.describe().name };
    this.parts.events.add({ severity: "info", kind, what: `LU ${lu.name} ${what}`, detail });
    return luRow(group, lu);
  }
}

/** LUs come in whole rows: a size above this one takes as many rows as the LU has. Bytes, not among the sizes that do. */
function smallestOf(group: Group, { level, width, sizeBytes }: LuDescription): number {
  const { rowBytes } = group.describe();
  const perRow = level === 5 ? rowBytes * (width - 1) : (rowBytes * width) / 2;
  return sizeBytes - perRow + 1;
}
