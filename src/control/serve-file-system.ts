import type {
  CheckFault,
  FileRow as ListedFile,
  FileSystemEvent as MountEvent,
  MountedFileSystem,
} from "../fs/file-system.js";
import { timeMs } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import { nextTurn } from "../lib/next-turn.js";
import { printable } from "../lib/printable.js";
import type { FileSystemEvent, ServedFileSystem } from "./layers.js";
import type { FileRow, FilesPage } from "./types.js";

/** A mounted file system as administration sees it. */
export function serveFileSystem(mounted: MountedFileSystem): ServedFileSystem {
  return {
    fileSystem: mounted,
    readOnly: mounted.readOnly,
    getSetting: (key) => mounted.getSetting(key) ?? null,
    setSetting: (key, value) => mounted.setSetting(key, value),
    check: async ({ data }) => {
      const { ok, faults, faultCount, inodes, directories, files, blocks } = await mounted.check({ data });
      const unlisted = faultCount > faults.length ? [`and ${faultCount - faults.length} more`] : [];
      return {
        clean: ok,
        problems: [...faults.map(describeFault), ...unlisted],
        counts: { inodes, directories, files, blocks },
      };
    },
    listFiles: (after, limit) => filesPage(mounted, after, limit),
    nameOf: (ino) => mounted.nameOf(ino),
    inspectors: () => mounted.inspectors(),
    grow: () => mounted.grow(),
    settle: () => mounted.settle(),
    snapshot: () => mounted.snapshot(),
    restorer: () => mounted.restorer(),
    isEmpty: () => mounted.statistics().inodes === 1,
    trouble: () => mounted.trouble(),
    statistics: () => ({ ...mounted.statistics() }),
    close: () => mounted.close(),
  };
}

function describeFault({ ino, what }: CheckFault): string {
  return ino === 0 ? what : `inode ${ino}: ${what}`;
}

/** Others have their turn between two slices. A page is full, or the last one. */
async function filesPage(mounted: MountedFileSystem, after: string | null, limit: number): Promise<FilesPage> {
  const rows: ListedFile[] = [];
  let at: string | null = after;
  do {
    const { rows: more, next } = mounted.listFilesSlice(at ?? undefined);
    rows.push(...more);
    at = next;
    await nextTurn();
  } while (at !== null && rows.length < limit);
  const shown = rows.slice(0, limit);
  const more = rows.length > limit ? (shown.at(-1)?.position ?? null) : at;
  return { files: shown.map(fileRow), next: more };
}

function fileRow(row: ListedFile): FileRow {
  return {
    name: printable(row.path),
    headAddress: row.headAddress < 0 ? null : row.headAddress,
    sizeBytes: row.sizeBytes,
    uid: row.ownerUid,
    updated: new Date(timeMs(row.updated)).toISOString(),
  };
}

type BlockEvent = Extract<MountEvent, { kind: "healed" | "unreadable" }>;

/** The kind of the event with plain values beside it, for log and API. */
export function plainEvent(event: MountEvent): FileSystemEvent {
  switch (event.kind) {
    case "failed":
      return { kind: event.kind, detail: { error: messageOf(event.error), ...event.error.detail } };
    case "no-room":
    case "room":
      return { kind: event.kind, detail: {} };
    case "write-failed":
      return { kind: event.kind, detail: { ino: event.ino, blocks: event.blockCount, error: messageOf(event.error) } };
    case "healed":
    case "unreadable":
      return { kind: event.kind, detail: blockDetail(event) };
  }
}

/** The same names as in a group's events: `lu`, `at`, `file`. */
function blockDetail({ kind: _, ...detail }: BlockEvent): FileSystemEvent["detail"] {
  return detail;
}
