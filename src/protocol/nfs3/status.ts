import { type Errno, StorageError } from "../../lib/errors.js";

export const NFS3_OK = 0;
export const NFS3ERR_TOOSMALL = 10005;
export const NFS3ERR_SERVERFAULT = 10006;
export const NFS3ERR_BADTYPE = 10007;

/** RFC 1813 section 2.6: a new Errno does not compile until every protocol answers for it. */
export const NFS3_STATUS: Readonly<Record<Errno, number>> = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EACCES: 13,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ENAMETOOLONG: 63,
  ENOTEMPTY: 66,
  ESTALE: 70,
  EBADHANDLE: 10001,
  ENOTSYNC: 10002,
  EBADCOOKIE: 10003,
  ENOTSUP: 10004,
  // JUKEBOX: the client tries again later, which is what being busy means.
  EBUSY: 10008,
};

/** Anything that is not a StorageError is our own mistake: SERVERFAULT. */
export function statusOf(error: unknown): number {
  return error instanceof StorageError ? NFS3_STATUS[error.code] : NFS3ERR_SERVERFAULT;
}
