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

/** What SQLite says of its files and their disk; its other words are about how it was used. */
const SQLITE_OUTSIDE = /^SQLITE_(FULL|IOERR|CORRUPT|NOTADB|CANTOPEN|NOMEM|READONLY|PROTOCOL)/;

/**
 * What went wrong outside of this program, as an operating error: a file, a socket, a child process, a connection that broke. Whoever ends the process for a
 * broken assumption asks this first.
 * @returns null for anything else: our own mistake
 */
export function operatingError(error: unknown): StorageError | null {
  if (isStorageError(error)) return error;
  if (!(error instanceof Error)) return null;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (typeof code !== "string") return null;
  if (typeof syscall !== "string" && !/^E[A-Z0-9]+$/.test(code) && !SQLITE_OUTSIDE.test(code)) return null;
  const isFull = code === "ENOSPC" || code === "EDQUOT" || code === "SQLITE_FULL";
  return new StorageError(isFull ? "ENOSPC" : "EIO", messageOf(error), {}, error);
}

/** The text of what began it: a "has failed" says less than why. */
export function rootMessageOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? messageOf(error) : rootMessageOf(cause);
}
