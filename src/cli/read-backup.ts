import { stat } from "node:fs/promises";
import { type ScannedPart, StreamScanner } from "../backup/scan.js";
import { readTarget, STANDARD_STREAM } from "../backup/target.js";
import { messageOf } from "../lib/errors.js";
import { ByteProgress } from "./byte-progress.js";
import { CliError } from "./errors.js";

/** A backup that was read to its end and is whole. */
export interface VerifiedBackup {
  readonly place: string;
  /** The first is where the backup begins; others go on from where it was broken off. */
  readonly parts: readonly ScannedPart[];
  readonly dataBytes: number;
}

/** @throws CliError naming the byte where something is wrong */
export async function verifyBackup(place: string): Promise<VerifiedBackup> {
  const total = place === STANDARD_STREAM ? 0 : await sizeOf(place);
  const progress = new ByteProgress("verifying");
  let dataBytes = 0;
  const scanner: StreamScanner = new StreamScanner(readTarget(place), {
    group: ({ data }) => {
      dataBytes += data.length;
      progress.show(scanner.goodBytes, total);
    },
  });
  try {
    return { place, parts: await scanner.run(), dataBytes };
  } catch (error) {
    throw new CliError(`${place}: ${messageOf(error)}`);
  } finally {
    progress.end();
  }
}

async function sizeOf(place: string): Promise<number> {
  return await stat(place).then(
    ({ size }) => size,
    () => 0,
  );
}

/** A full backup and those that add to it, each to the one before. @throws CliError when they do not belong together */
export function requireChain(backups: readonly VerifiedBackup[]): void {
  let before: VerifiedBackup | null = null;
  for (const backup of backups) {
    const { header } = backup.parts[0]!;
    const last = before?.parts.at(-1)?.header;
    if (header.parent !== (last?.backup ?? null)) throw new CliError(mismatch(backup, before));
    before = backup;
  }
}

function mismatch(backup: VerifiedBackup, before: VerifiedBackup | null): string {
  const { parent } = backup.parts[0]!.header;
  if (parent === null) return `${backup.place} is a full backup: it comes first, and adds to nothing`;
  if (before === null)
    return `${backup.place} is an incremental backup: name the full one that its chain begins with first (backup ${parent.slice(0, 8)} comes before it)`;
  return `${backup.place} does not add to ${before.place}: backup ${parent.slice(0, 8)} comes before it`;
}

/** The bytes of all parts, the newest first: what a restore takes. */
export async function* newestFirst(backups: readonly VerifiedBackup[]): AsyncGenerator<Buffer> {
  for (const { place, parts } of backups.toReversed())
    for (const { from, to } of parts.toReversed()) yield* readTarget(place, from, to);
}
