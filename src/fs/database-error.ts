import { messageOf, StorageError } from "../lib/errors.js";

/** Run a query that only reads. What SQLite throws (a damaged or unreadable scratch copy) becomes EIO; nothing has changed. */
export function reading<T>(query: () => T): T {
  try {
    return query();
  } catch (error) {
    throw new StorageError("EIO", "the metadata cannot be read", { cause: messageOf(error) }, error);
  }
}
