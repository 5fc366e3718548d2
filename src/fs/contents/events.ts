/** What an administrator may want to know. `block` counts from the start of the file, `address` in bytes from the start of the data LU. */
export type ContentsEvent =
  | { readonly kind: "healed"; readonly ino: number; readonly block: number; readonly address: number }
  | { readonly kind: "unreadable"; readonly ino: number; readonly block: number; readonly address: number }
  | { readonly kind: "write-failed"; readonly ino: number; readonly blockCount: number; readonly error: unknown };
