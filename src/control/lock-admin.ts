import { LAST_BYTE } from "../fs/locks/range.js";
import type { LockClientRow, LockRow } from "../fs/vfs.js";
import { isStorageError, StorageError } from "../lib/errors.js";
import { printable } from "../lib/printable.js";
import { LIMITS } from "../limits.js";
import type { EventLog } from "./event-log.js";
import type { FileSystemKeeper } from "./file-system-keeper.js";
import type { GroupRoster } from "./group-roster.js";
import type { ServedFileSystem } from "./layers.js";
import { luRows } from "./rows.js";
import type { FileLockRow, LocksPage, LuLockRow, ReleasedClient, ReleasedLocks } from "./types.js";

export interface LockAdminParts {
  readonly node: string;
  readonly fileSystems: FileSystemKeeper;
  readonly groups: GroupRoster;
  readonly events: EventLog;
}

/** The locks of clients on files, and those of this node on LUs. */
export class LockAdmin {
  constructor(private readonly parts: LockAdminParts) {}

  /** @param after  `next` of the page before; null: from the start. @throws StorageError EINVAL */
  async files(after: string | null, limit: number): Promise<LocksPage> {
    const rows: FileLockRow[] = [];
    const begin = placeOf(after);
    let { namesUsed } = begin;
    let isBehind = begin.fileSystem === null;
    for (const { name, served } of this.parts.fileSystems.mounted()) {
      const isFirst = name === begin.fileSystem;
      isBehind ||= isFirst;
      if (!isBehind) continue;
      const locks = served.fileSystem.locks.list(isFirst ? begin.id : 0, limit - rows.length);
      const names = await namesOf(served, locks, LIMITS.lockNamesMax - namesUsed);
      namesUsed += names.size;
      for (const lock of locks) rows.push(fileLockRow(name, names.get(lock.ino) ?? `inode ${lock.ino}`, lock));
      const last = locks.at(-1);
      if (rows.length >= limit && last !== undefined) return { locks: rows, next: `${last.id}.${namesUsed}.${name}` };
    }
    return { locks: rows, next: null };
  }

  /** Who has locks or waits for some, and on how many files. From memory: it is asked every few seconds. */
  owners(): LockClientRow[] {
    const found = new Map<string, LockClientRow>();
    for (const { served } of this.parts.fileSystems.mounted()) {
      for (const client of served.fileSystem.locks.clients(LIMITS.lockOwnersMax)) {
        const { address } = client;
        const host = printable(Buffer.from(client.host, "latin1")).slice(0, LIMITS.hostNameCharactersMax);
        const key = `${address} ${host}`;
        if (!found.has(key) && found.size >= LIMITS.lockOwnersMax) continue;
        found.set(key, { address, host, files: (found.get(key)?.files ?? 0) + client.files });
      }
    }
    return [...found.values()];
  }

  /** A group that is open here is this node's with all its LUs: it holds the locks of their disks. */
  lus(): LuLockRow[] {
    const open = new Set(this.parts.groups.open().map(({ group }) => group));
    return this.parts.groups.all().flatMap((group) => {
      const node = open.has(group) ? this.parts.node : null;
      return luRows(group).map(({ number, name, group: groupName }) => ({ number, name, group: groupName, node }));
    });
  }

  /** The client is dead and will not come back: all its locks go, and who waits for them gets them. */
  async release({ host, address }: ReleasedClient): Promise<ReleasedLocks> {
    // What people type is UTF-8; the wire's name is bytes, one character for each.
    const client = { address, host: host === null ? null : Buffer.from(host, "utf8").toString("latin1") };
    const released = { host, address, held: 0, waiting: 0, shares: 0 };
    for (const { served } of this.parts.fileSystems.mounted()) {
      const { held, waiting, shares } = await served.fileSystem.locks.free(client);
      released.held += held;
      released.waiting += waiting;
      released.shares += shares;
    }
    const count = released.held + released.waiting + released.shares;
    if (count > 0) {
      const what = `all locks of client ${clientName({ host, address })} released by an administrator: ${count}`;
      this.parts.events.add({ severity: "warning", kind: "locks-released", what, detail: { ...released } });
    }
    return released;
  }
}

function clientName({ host, address }: ReleasedClient): string {
  const parts = [...(host === null ? [] : [printable(Buffer.from(host))]), ...(address === null ? [] : [address])];
  return parts.join(" at ");
}

interface Place {
  /** null: before the first. */
  readonly fileSystem: string | null;
  readonly id: number;
  /** Names that the pages before have looked for. */
  readonly namesUsed: number;
}

function placeOf(after: string | null): Place {
  if (after === null) return { fileSystem: null, id: 0, namesUsed: 0 };
  const match = /^(\d{1,15})\.(\d{1,4})\.(.+)$/.exec(after);
  if (match === null) throw new StorageError("EINVAL", "not a position of this list");
  return { fileSystem: match[3]!, id: Number(match[1]), namesUsed: Number(match[2]) };
}

/** A name may have to be searched for; a client with locks on very many files sees the numbers of the last ones. */
async function namesOf(
  served: ServedFileSystem,
  locks: readonly LockRow[],
  namesMax: number,
): Promise<Map<number, string>> {
  const names = new Map<number, string>();
  for (const { ino } of locks) {
    if (names.has(ino)) continue;
    if (names.size >= namesMax) break;
    // It may stop meanwhile: the locks are shown all the same.
    const name = await served.nameOf(ino).catch((error: unknown) => {
      if (!isStorageError(error)) throw error;
      return null;
    });
    if (name !== null) names.set(ino, name);
  }
  return names;
}

function fileLockRow(fileSystem: string, name: string, lock: LockRow): FileLockRow {
  const { state, owner, exclusive, first, last } = lock;
  const isShare = state === "share";
  return {
    ...{ fileSystem, name, state, host: printable(Buffer.from(owner.host, "latin1")) },
    address: owner.address,
    pid: isShare ? null : owner.svid,
    kind: isShare ? null : exclusive ? "exclusive" : "shared",
    first: isShare ? null : String(first),
    last: isShare || last === LAST_BYTE ? null : String(last),
  };
}
