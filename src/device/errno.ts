import { type Errno, StorageError } from "../lib/errors.js";

/** What a transfer on an open disk may answer, beside EIO, which stands for everything not listed. */
const OF_TRANSFER: Readonly<Record<string, Errno>> = {
  EBADF: "ENXIO",
  ENODEV: "ENXIO",
  ENXIO: "ENXIO",
  ENOMEDIUM: "ENXIO",
  // A network file system under the file has lost it.
  ESTALE: "ENXIO",
  // A sparse file on a host file system that is full.
  ENOSPC: "ENOSPC",
  EDQUOT: "ENOSPC",
  EROFS: "EROFS",
  // What a write-protected block device answers to a write.
  EPERM: "EROFS",
};

export function errnoOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "unknown";
}

/**
 * The StorageError for a system call that failed on an open disk.
 * @param what      "read", "write" or "flush", for the text
 * @param position  bytes, where the request began
 */
export function transferError(error: unknown, device: string, what: string, position: number): StorageError {
  const errno = errnoOf(error);
  const code = OF_TRANSFER[errno] ?? "EIO";
  return new StorageError(code, `${what} of ${device} failed (${errno})`, { device, position, errno }, error);
}
