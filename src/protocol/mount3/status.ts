import { type Errno, StorageError } from "../../lib/errors.js";

/** mountstat3, RFC 1813 section 5.1.5. */
export const MNT3_OK = 0;
const MNT3ERR_IO = 5;
const MNT3ERR_ACCES = 13;
const MNT3ERR_INVAL = 22;
const MNT3ERR_SERVERFAULT = 10006;

export const MOUNT3_STATUS: Readonly<Record<Errno, number>> = {
  EPERM: 1,
  ENOENT: 2,
  EIO: MNT3ERR_IO,
  ENXIO: MNT3ERR_IO,
  ENODEV: MNT3ERR_IO,
  ENOSPC: MNT3ERR_IO,
  EBUSY: MNT3ERR_IO,
  ESTALE: 2,
  EACCES: MNT3ERR_ACCES,
  EROFS: MNT3ERR_ACCES,
  ENOTDIR: 20,
  EINVAL: MNT3ERR_INVAL,
  EISDIR: MNT3ERR_INVAL,
  EEXIST: MNT3ERR_INVAL,
  EXDEV: MNT3ERR_INVAL,
  EFBIG: MNT3ERR_INVAL,
  EMLINK: MNT3ERR_INVAL,
  ENOTEMPTY: MNT3ERR_INVAL,
  EBADHANDLE: MNT3ERR_INVAL,
  ENOTSYNC: MNT3ERR_INVAL,
  EBADCOOKIE: MNT3ERR_INVAL,
  ENAMETOOLONG: 63,
  ENOTSUP: 10004,
};

export function mountStatusOf(error: unknown): number {
  return error instanceof StorageError ? MOUNT3_STATUS[error.code] : MNT3ERR_SERVERFAULT;
}
