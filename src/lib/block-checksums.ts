import { crc32c, crc32cAppendBlock } from "./crc32c.js";
import { BLOCK_BYTES } from "./units.js";

/**
 * CRC-32C of the whole blocks of a piece of a file, worked out when it arrived. Whoever stores the blocks need not do it again, and one that is
 * changed on its way to the disk does not pass for what was sent.
 */
export class BlockChecksums {
  constructor(
    /** Of the file. */
    readonly firstBlock: number,
    readonly crcs: Uint32Array,
  ) {}

  /** @returns -1 when the block is none of the whole ones */
  of(block: number): number {
    return this.crcs[block - this.firstBlock] ?? -1;
  }
}

/**
 * The CRC-32C of bytes of which a part is the content of a file from `offset` on, and those of the blocks in it, in one pass.
 * @param start  of all bytes in `buffer`; `dataStart` to `dataEnd` are the file's, up to `end` are others again
 */
export function checksumWithBlocks(
  buffer: Buffer,
  { start, dataStart, dataEnd, end }: Readonly<Record<"start" | "dataStart" | "dataEnd" | "end", number>>,
  offset: number,
): { readonly checksum: number; readonly blocks: BlockChecksums } {
  const firstBlock = Math.ceil(offset / BLOCK_BYTES);
  const blocksStart = Math.min(dataEnd, dataStart + (firstBlock * BLOCK_BYTES - offset));
  const crcs = new Uint32Array(Math.floor((dataEnd - blocksStart) / BLOCK_BYTES));
  let checksum = crc32c(buffer.subarray(start, blocksStart));
  let at = blocksStart;
  for (let i = 0; i < crcs.length; i++, at += BLOCK_BYTES) {
    const crc = crc32c(buffer.subarray(at, at + BLOCK_BYTES));
    crcs[i] = crc;
    checksum = crc32cAppendBlock(checksum, crc);
  }
  return { checksum: crc32c(buffer.subarray(at, end), checksum), blocks: new BlockChecksums(firstBlock, crcs) };
}
