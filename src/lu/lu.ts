/**
 * What an LU is to everyone above it: an address range on a group that behaves like one reliable disk with a volatile cache.
 * The types stand in raid/contract.ts, because `Group.openLu` names them and imports point down; this is where to import them from.
 */
export type { BlockInspector, LogicalUnit, LuDescription } from "../raid/contract.js";
