import type { Clock, Time } from "../lib/clock.js";
import { BLOCK_BYTES } from "../lib/units.js";
import type { Inode } from "./inode.js";
import type { Attributes, Change } from "./vfs.js";

export function attributesOf(inode: Inode): Attributes {
  return {
    ino: inode.ino,
    generation: inode.generation,
    kind: inode.kind,
    mode: inode.mode,
    nlink: inode.nlink,
    uid: inode.uid,
    gid: inode.gid,
    sizeBytes: inode.sizeBytes,
    usedBytes: inode.usedBlocks * BLOCK_BYTES,
    rdevMajor: inode.rdevMajor,
    rdevMinor: inode.rdevMinor,
    atime: { seconds: inode.atimeSeconds, nanoseconds: inode.atimeNanoseconds },
    mtime: { seconds: inode.mtimeSeconds, nanoseconds: inode.mtimeNanoseconds },
    ctime: { seconds: inode.ctimeSeconds, nanoseconds: inode.ctimeNanoseconds },
  };
}

export type BeforeChange = Change["before"];

export function beforeOf(inode: Inode): BeforeChange {
  return {
    sizeBytes: inode.sizeBytes,
    mtime: { seconds: inode.mtimeSeconds, nanoseconds: inode.mtimeNanoseconds },
    ctime: { seconds: inode.ctimeSeconds, nanoseconds: inode.ctimeNanoseconds },
  };
}

export function changeOf(before: BeforeChange, inode: Inode): Change {
  return { before, after: attributesOf(inode) };
}

/** An operation that succeeded and changed nothing. */
export function unchanged(inode: Inode): Change {
  return changeOf(beforeOf(inode), inode);
}

export function setAtime(inode: Inode, time: Time): void {
  inode.atimeSeconds = time.seconds;
  inode.atimeNanoseconds = time.nanoseconds;
}

export function setMtime(inode: Inode, time: Time): void {
  inode.mtimeSeconds = time.seconds;
  inode.mtimeNanoseconds = time.nanoseconds;
}

export function setCtime(inode: Inode, time: Time): void {
  inode.ctimeSeconds = time.seconds;
  inode.ctimeNanoseconds = time.nanoseconds;
}

/** The contents, or the entries of a directory, have changed. */
export function touchModified(inode: Inode, time: Time): void {
  setMtime(inode, time);
  setCtime(inode, time);
}

const ATIME_LAG_SECONDS_MAX = 86_400;

/**
 * Whether a read at `now` moves the access time (Linux relatime): only when the file was changed since it was last read, or once a day.
 * So a file that is read and read again costs no write.
 */
export function atimeIsDue(inode: Inode, clock: Clock): Time | null {
  const now = clock.wallTime();
  if (now.seconds - inode.atimeSeconds >= ATIME_LAG_SECONDS_MAX) return now;
  return atimeBehind(inode, inode.mtimeSeconds, inode.mtimeNanoseconds) ||
    atimeBehind(inode, inode.ctimeSeconds, inode.ctimeNanoseconds)
    ? now
    : null;
}

function atimeBehind(inode: Inode, seconds: number, nanoseconds: number): boolean {
  if (inode.atimeSeconds !== seconds) return inode.atimeSeconds < seconds;
  return inode.atimeNanoseconds <= nanoseconds;
}
