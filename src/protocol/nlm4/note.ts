import { ownCopy } from "../../lib/slab.js";
import { XdrError, XdrReader } from "../xdr/reader.js";
import { XdrWriter } from "../xdr/writer.js";

/**
 * What a waiting request leaves with the file system, so that its grant finds the client also after a restart: XDR of a version (1), whether
 * the request came as a message (LOCK_MSG), our own address as the client called it, and the file handle.
 */
export interface LockNote {
  readonly asMessage: boolean;
  readonly localAddress: string;
  /** nfs_fh3 with its length in front. */
  readonly handle: Buffer;
}

const VERSION = 1;
const ADDRESS_BYTES_MAX = 64;

export function encodeNote({ asMessage, localAddress, handle }: LockNote): Buffer {
  const w = new XdrWriter();
  w.u32(VERSION);
  w.bool(asMessage);
  w.text(localAddress);
  w.fixed(handle);
  return ownCopy(w.bytes());
}

/** @returns null for a note that another version has left */
export function decodeNote(note: Buffer): LockNote | null {
  try {
    const reader = new XdrReader(note);
    if (reader.u32() !== VERSION) return null;
    const asMessage = reader.bool();
    const localAddress = reader.opaque(ADDRESS_BYTES_MAX).toString("latin1");
    return { asMessage, localAddress, handle: note.subarray(reader.at) };
  } catch (error) {
    if (error instanceof XdrError) return null;
    throw error;
  }
}
