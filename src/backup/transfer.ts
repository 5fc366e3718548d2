import { StorageError } from "../lib/errors.js";
import type { BackupHeader } from "./format.js";
import { StreamScanner } from "./scan.js";
import { type TargetWriter, wholeBlocks } from "./target.js";

export interface Transferred {
  readonly header: BackupHeader;
  /** File data in it. */
  readonly dataBytes: number;
}

/**
 * Write a backup to its target as it comes, durably, and prove on the way that it is whole. Each piece is looked through before it is
 * written: one that tells of a failure never gets there.
 * @param onPiece  called with file data so far, and what is expected
 * @throws StorageError: what the maker of the backup, or the target, could not do
 */
export async function transferBackup(
  source: AsyncIterable<Buffer>,
  writer: TargetWriter,
  onPiece: (dataBytes: number, expectedBytes: number) => void = () => {},
): Promise<Transferred> {
  const scanner: StreamScanner = new StreamScanner(
    written(wholeBlocks(source), writer, () => {
      onPiece(scanner.dataBytes, scanner.parts[0]?.header.dataBytes ?? 0);
    }),
  );
  const [part] = await scanner.run();
  if (part?.end == null) throw new StorageError("EIO", "the backup did not come to its end");
  await writer.finish();
  return { header: part.header, dataBytes: part.end.dataBytes };
}

async function* written(
  pieces: AsyncIterable<Buffer>,
  writer: TargetWriter,
  onPiece: () => void,
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    yield piece;
    await writer.write(piece);
    onPiece();
  }
}
