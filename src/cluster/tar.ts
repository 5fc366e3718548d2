import { assert } from "../lib/assert.js";

/** A file or link of an archive; folders come by themselves. */
export interface TarEntry {
  /** Relative, with slashes. */
  readonly name: string;
  readonly executable: boolean;
  readonly sizeBytes: number;
  /** Target of a symbolic link; null: a file. */
  readonly link: string | null;
}

const BLOCK = 512;

/**
 * Head of one entry: one block of the ustar format (POSIX.1-1988). No times, no owners: the same files make the same bytes.
 * @throws AssertionError when the name does not fit 155 + 100 bytes
 */
export function tarHeader({ name, executable, sizeBytes, link }: TarEntry): Buffer {
  const block = Buffer.alloc(BLOCK);
  const { prefix, rest } = splitName(name);
  block.write(rest, 0);
  block.write(octal(executable ? 0o755 : 0o644, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(link === null ? sizeBytes : 0, 11), 124);
  block.write(octal(0, 11), 136);
  block.write("        ", 148);
  block.write(link === null ? "0" : "2", 156);
  if (link !== null) block.write(link, 157);
  block.write("ustar\u000000", 257);
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\u0000 `, 148);
  return block;
}

/** Zeros that follow the content of a file. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
}

/** Two zero blocks. */
export const TAR_END = Buffer.alloc(2 * BLOCK);

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}

function splitName(name: string): { prefix: string; rest: string } {
  if (Buffer.byteLength(name) <= 100) return { prefix: "", rest: name };
  const at = name.indexOf("/", name.length - 101);
  assert(at > 0, "a long name has a slash where it can be cut");
  const [prefix, rest] = [name.slice(0, at), name.slice(at + 1)];
  assert(Buffer.byteLength(prefix) <= 155, "the folder of a long name fits the prefix");
  return { prefix, rest };
}
