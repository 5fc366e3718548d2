import { messageOf, operatingError, StorageError } from "../lib/errors.js";

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
