import { isStorageError } from "../lib/errors.js";

/** Did it go well? @throws what is no StorageError: that is our own mistake */
export async function succeeds(way: Promise<void>): Promise<boolean> {
  try {
    await way;
    return true;
  } catch (error) {
    if (isStorageError(error)) return false;
    throw error;
  }
}
