import { type Errno, StorageError } from "../../lib/errors.js";

/** nlm4_stats, RFC 1813 section 6.3.2. DENIED_GRACE_PERIOD: as long as the file system is not served (locks survive a restart). Never given: DEADLCK (nobody looks for deadlocks). */
export const Nlm4Status = {
  granted: 0,
  denied: 1,
  deniedNoLocks: 2,
  blocked: 3,
  deniedGracePeriod: 4,
  readOnlyFileSystem: 6,
  staleHandle: 7,
  tooBig: 8,
  failed: 9,
} as const;

export const NLM4_STATUS: Readonly<Record<Errno, number>> = {
  EACCES: Nlm4Status.failed,
  EBADCOOKIE: Nlm4Status.failed,
  EBADHANDLE: Nlm4Status.staleHandle,
  // The client waits and asks again: its file system is not served now.
  EBUSY: Nlm4Status.deniedGracePeriod,
  EEXIST: Nlm4Status.failed,
  EFBIG: Nlm4Status.tooBig,
  EINVAL: Nlm4Status.failed,
  EIO: Nlm4Status.failed,
  EISDIR: Nlm4Status.failed,
  EMLINK: Nlm4Status.failed,
  ENAMETOOLONG: Nlm4Status.failed,
  ENODEV: Nlm4Status.failed,
  ENOENT: Nlm4Status.staleHandle,
  ENOSPC: Nlm4Status.deniedNoLocks,
  ENOTDIR: Nlm4Status.failed,
  ENOTEMPTY: Nlm4Status.failed,
  ENOTSUP: Nlm4Status.failed,
  ENOTSYNC: Nlm4Status.failed,
  ENXIO: Nlm4Status.failed,
  EPERM: Nlm4Status.failed,
  EROFS: Nlm4Status.readOnlyFileSystem,
  ESTALE: Nlm4Status.staleHandle,
  EXDEV: Nlm4Status.failed,
};

export function lockStatusOf(error: unknown): number {
  return error instanceof StorageError ? NLM4_STATUS[error.code] : Nlm4Status.failed;
}
