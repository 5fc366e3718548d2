import { isStorageError, messageOf, StorageError } from "../lib/errors.js";

/**
 * What went wrong outside of this program, as an operating error: a file that could not be read or written, a connection that broke.
 * @returns null for anything else: our own mistake
 */
export function operatingError(error: unknown): StorageError | null {
  if (isStorageError(error)) return error;
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (typeof code !== "string" || !/^E[A-Z]+$/.test(code)) return null;
  return new StorageError(code === "ENOSPC" ? "ENOSPC" : "EIO", messageOf(error), {}, error);
}

/** The same bytes; when they break off it is an operating error. */
export async function* arriving(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    throw operatingError(error) === null
      ? error
      : new StorageError("EIO", `the backup stopped coming: ${messageOf(error)}`, {}, error);
  }
}
