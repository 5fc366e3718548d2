/** Every operating error below the protocols: a POSIX name where there is one. Each protocol maps it once, exhaustively. */
export type Errno =
  | "EACCES"
  | "EBADCOOKIE"
  | "EBADHANDLE"
  | "EBUSY"
  | "EEXIST"
  | "EFBIG"
  | "EINVAL"
  | "EIO"
  | "EISDIR"
  | "EMLINK"
  | "ENAMETOOLONG"
  | "ENODEV"
  | "ENOENT"
  | "ENOSPC"
  | "ENOTDIR"
  | "ENOTEMPTY"
  | "ENOTSUP"
  /** Not POSIX: the guard of a setattr does not match (RFC 1813 section 3.3.2). */
  | "ENOTSYNC"
  | "ENXIO"
  | "EPERM"
  | "EROFS"
  | "ESTALE"
  | "EXDEV";

export type Detail = Readonly<Record<string, unknown>>;

/** An operating error: expected, handled, answered to a client. `detail` goes to the log, never to the wire. */
export class StorageError extends Error {
  override name = "StorageError";
  constructor(
    readonly code: Errno,
    what: string,
    readonly detail: Detail = {},
    cause?: unknown,
  ) {
    super(what, cause === undefined ? undefined : { cause });
  }
}

export function isStorageError(error: unknown, code?: Errno): error is StorageError {
  return error instanceof StorageError && (code === undefined || error.code === code);
}

/** The text of whatever was thrown, for one line of a log or of stderr. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
