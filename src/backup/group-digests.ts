import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import type { GroupPlace, SnapshotGroup } from "../fs/snapshot/snapshot.js";
import { KIB } from "../lib/units.js";

/**
 * What a backup saw of each group of each file, in order: u48 inode, u32 group, 10 bytes of the SHA-256 of its extent row. A block is never
 * written in place, so an equal row means equal contents, but for a block that came back to its place with another content of the same CRC-32C.
 */
const ENTRY = { ino: 0, group: 6, digest: 10, end: 20 } as const;
const PIECE_BYTES = ENTRY.end * 4 * KIB;

export interface GroupDigest extends GroupPlace {
  readonly digest: Buffer;
}

export function digestOf(group: SnapshotGroup): GroupDigest {
  const hash = createHash("sha256").update(group.row).digest();
  return { ino: group.ino, group: group.group, digest: hash.subarray(0, ENTRY.end - ENTRY.digest) };
}

/** Below 0: `a` comes first. */
export function comparePlaces(a: GroupPlace, b: GroupPlace): number {
  return a.ino - b.ino || a.group - b.group;
}

/** Writes a list; what is in it counts only once `close` has resolved, but for what goes on from a backup that was broken off. */
export class DigestWriter {
  readonly #piece = Buffer.alloc(PIECE_BYTES);
  #filled = 0;

  private constructor(private readonly file: FileHandle) {}

  static async create(place: string): Promise<DigestWriter> {
    return new DigestWriter(await open(place, "w", 0o600));
  }

  async put({ ino, group, digest }: GroupDigest): Promise<void> {
    const at = this.#filled;
    this.#piece.writeUIntLE(ino, at + ENTRY.ino, 6);
    this.#piece.writeUInt32LE(group, at + ENTRY.group);
    digest.copy(this.#piece, at + ENTRY.digest);
    this.#filled += ENTRY.end;
    if (this.#filled === PIECE_BYTES) await this.#flush();
  }

  async close(): Promise<void> {
    try {
      await this.#flush();
    } finally {
      await this.file.close();
    }
  }

  async #flush(): Promise<void> {
    if (this.#filled > 0) await this.file.writeFile(this.#piece.subarray(0, this.#filled));
    this.#filled = 0;
  }
}

/** A list from a file, in order; a last entry that is cut counts as none. */
export async function* readDigests(place: string): AsyncGenerator<GroupDigest> {
  const file = await open(place, "r");
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    for (;;) {
      const count = await fill(file, piece);
      for (let at = 0; at + ENTRY.end <= count; at += ENTRY.end) {
        const digest = piece.subarray(at + ENTRY.digest, at + ENTRY.end);
        yield { ino: piece.readUIntLE(at + ENTRY.ino, 6), group: piece.readUInt32LE(at + ENTRY.group), digest };
      }
      if (count < piece.length) return;
    }
  } finally {
    await file.close();
  }
}

async function fill(file: FileHandle, piece: Buffer): Promise<number> {
  for (let filled = 0; ; ) {
    const { bytesRead } = await file.read(piece, filled, piece.length - filled, null);
    filled += bytesRead;
    if (bytesRead === 0 || filled === piece.length) return filled;
  }
}

/** What a backup that goes on knows: of places up to `upTo` what the part before saw, of those behind what that part began from. */
export async function* joinDigests(
  before: AsyncIterable<GroupDigest>,
  upTo: GroupPlace,
  behind: AsyncIterable<GroupDigest>,
): AsyncGenerator<GroupDigest> {
  for await (const one of before) {
    if (comparePlaces(one, upTo) > 0) break;
    yield one;
  }
  for await (const one of behind) if (comparePlaces(one, upTo) > 0) yield one;
}

export async function* noDigests(): AsyncGenerator<GroupDigest> {}
