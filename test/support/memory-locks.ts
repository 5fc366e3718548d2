import type { LockRows } from "../../src/fs/locks/book.js";
import { FileLockTable } from "../../src/fs/locks/file-locks.js";
import type { FileId } from "../../src/fs/vfs.js";

const NO_ROWS: LockRows = {
  putHeld: () => {},
  dropHeld: () => {},
  putWaiting: () => {},
  markOffered: () => {},
  dropWaiting: () => {},
  putShare: () => {},
  dropShare: () => {},
};

/** Locks that live as long as this object. */
export function memoryLocks(requireFile: (id: FileId) => void, durable: () => Promise<void>): FileLockTable {
  const ground = {
    rows: NO_ROWS,
    requireFile,
    exists: () => true,
    requireAlive: () => {},
    requireSpace: () => {},
    roomInCommit: () => null,
    keepReply: () => {},
    durable,
  };
  return new FileLockTable(ground);
}
