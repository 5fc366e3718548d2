import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { encodePart } from "../../src/backup/encode.js";
import { fileSystemRecords } from "../../src/backup/file-system-source.js";
import type { BackupHeader } from "../../src/backup/format.js";
import { DigestWriter, type GroupDigest, noDigests } from "../../src/backup/group-digests.js";
import { restoreFileSystem } from "../../src/backup/restore.js";
import { MemoryFileSystem, type MemoryFileSystemOptions } from "./memory-file-system.js";

const folder = mkdtempSync(path.join(tmpdir(), "stripeward-backup-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

export function backupId(number: number): string {
  return number.toString(16).padStart(32, "0");
}

export function digestsOf(number: number): string {
  return path.join(folder, `${backupId(number)}.groups`);
}

export function headerOf(number: number, more: Partial<BackupHeader> = {}): BackupHeader {
  return {
    ...{ kind: "file-system", name: "data", uuid: "u", backup: backupId(number), parent: null },
    ...{ chain: backupId(1), continues: null, time: "2026-01-02T03:04:05Z", node: "chn1", dataBytes: 0, ...more },
  };
}

export async function bytesOf(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

export async function* piecesOf(...all: readonly Buffer[]): AsyncGenerator<Buffer> {
  // Odd pieces, as a socket hands them out.
  for (const bytes of all) for (let at = 0; at < bytes.length; at += 50_001) yield bytes.subarray(at, at + 50_001);
}

/** A backup of a file system as it is now, whole in memory. */
export async function backUp(
  memory: MemoryFileSystem,
  header: BackupHeader,
  number: number,
  base: AsyncIterable<GroupDigest> = noDigests(),
): Promise<Buffer> {
  const snapshot = await memory.fs.snapshot();
  const seen = await DigestWriter.create(digestsOf(number));
  try {
    const records = fileSystemRecords({ snapshot, header, base, seen });
    return await bytesOf(encodePart(Buffer.from(header.backup, "hex"), records));
  } finally {
    await seen.close();
    snapshot.close();
  }
}

/** A new file system with what the parts hold, the newest first; mounted anew. */
export async function restored(
  parts: readonly Buffer[],
  options: MemoryFileSystemOptions = {},
): Promise<MemoryFileSystem> {
  const memory = await MemoryFileSystem.open(options);
  await restoreFileSystem(piecesOf(...parts), parts.length, memory.fs.restorer());
  await memory.remount();
  return memory;
}
