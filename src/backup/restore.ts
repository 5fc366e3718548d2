import type { Restorer } from "../fs/snapshot/restorer.js";
import { StorageError } from "../lib/errors.js";
import type { BackupHeader } from "./format.js";
import { StreamScanner } from "./scan.js";

/**
 * Put the parts of a chain into an empty file system.
 * @param source  the parts one behind the other, the newest first: only the tables of the first count
 * @param parts   how many must come
 * @returns the header of the newest
 * @throws StorageError EIO (damaged, or not a chain), EINVAL, ENOSPC
 */
export async function restoreFileSystem(
  source: AsyncIterable<Buffer>,
  parts: number,
  restorer: Restorer,
): Promise<BackupHeader> {
  const headers: BackupHeader[] = [];
  const newest = () => headers.length === 1;
  await new StreamScanner(source, {
    header: (header) => {
      if (header.kind !== "file-system") throw new StorageError("EINVAL", "this is no backup of a file system");
      const wanted = headers.at(-1);
      if (wanted !== undefined && header.backup !== (wanted.continues ?? wanted.parent))
        throw new StorageError("EINVAL", "the parts of the backup do not belong together");
      headers.push(header);
    },
    inodes: async (rows) => {
      if (newest()) for (const row of rows) await restorer.putInode(row);
    },
    entries: async (entries) => {
      if (newest()) for (const entry of entries) await restorer.putEntry(entry);
    },
    tables: async ({ nextIno }) => {
      if (newest()) await restorer.endTables(nextIno);
    },
    group: ({ ino, group, slots, data }) => restorer.putGroup(ino, group, slots, data),
  }).run();
  const last = headers.at(-1);
  if (headers.length !== parts || last === undefined || (last.continues ?? last.parent) !== null)
    throw new StorageError("EINVAL", "parts of the backup are missing");
  await restorer.finish();
  return headers[0]!;
}
