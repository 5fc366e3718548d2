/** A block of a file that did not match its checksum, or could not be read. */
export interface BadBlock {
  /** healed: rewritten with its content, which another copy had. unreadable: no copy has it (EIO). */
  readonly kind: "healed" | "unreadable";
  readonly ino: number;
  /** From the start of the file. */
  readonly block: number;
  /** Number of the data LU, and byte on it. */
  readonly lu: number;
  readonly at: number;
  /** `/dir/file (block 17)`; absent while nobody has looked for the name. */
  readonly file?: string;
}

/** What an administrator may want to know. */
export type ContentsEvent =
  | BadBlock
  | { readonly kind: "write-failed"; readonly ino: number; readonly blockCount: number; readonly error: unknown };
