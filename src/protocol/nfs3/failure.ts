import type { Nfs3Call, Target } from "./call.js";
import { POST_OP_ATTR_BYTES, putChange, putPostOp, unchanged, WCC_DATA_BYTES } from "./codec.js";

/** The shapes of a failed reply (RFC 1813 section 3.3), shared by the procedures that have the same. */

/** The status alone: GETATTR. */
export function failPlain(call: Nfs3Call, status: number): void {
  call.begin(status, 0);
  call.end();
}

/** post_op_attr of the first object. */
export function failAttributes(call: Nfs3Call, status: number): void {
  const { first } = call;
  const attributes = first?.attributes() ?? null;
  const w = call.begin(status, POST_OP_ATTR_BYTES);
  w.at = putPostOp(w.buffer, w.at, fileSystemId(first), attributes);
  call.end();
}

/** wcc_data of the first object. */
export function failChange(call: Nfs3Call, status: number): void {
  const change = unchangedOf(call.first);
  const w = call.begin(status, WCC_DATA_BYTES);
  w.at = putChange(w.buffer, w.at, fileSystemId(call.first), change);
  call.end();
}

/** wcc_data of both directories: RENAME. */
export function failChanges(call: Nfs3Call, status: number): void {
  const from = unchangedOf(call.first);
  const to = unchangedOf(call.second);
  const w = call.begin(status, 2 * WCC_DATA_BYTES);
  w.at = putChange(w.buffer, w.at, fileSystemId(call.first), from);
  w.at = putChange(w.buffer, w.at, fileSystemId(call.second), to);
  call.end();
}

/** post_op_attr of the file, wcc_data of the directory: LINK. */
export function failAttributesAndChange(call: Nfs3Call, status: number): void {
  const attributes = call.first?.attributes() ?? null;
  const change = unchangedOf(call.second);
  const w = call.begin(status, POST_OP_ATTR_BYTES + WCC_DATA_BYTES);
  w.at = putPostOp(w.buffer, w.at, fileSystemId(call.first), attributes);
  w.at = putChange(w.buffer, w.at, fileSystemId(call.second), change);
  call.end();
}

function unchangedOf(target: Target | null) {
  const attributes = target?.attributes() ?? null;
  return attributes === null ? null : unchanged(attributes);
}

function fileSystemId(target: Target | null): number {
  return target?.fileSystem.id ?? 0;
}
