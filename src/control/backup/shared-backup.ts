import { z } from "zod";
import { RECORD_KINDS, RECORD_SCHEMAS, type RecordKind, type RecordWriter } from "../../ha/shared/records.js";
import { isStorageError, StorageError } from "../../lib/errors.js";
import type { SharedAdmin } from "../shared-admin.js";
import type { NodeRecordsReport } from "../types.js";

/** All that can have a partition on a shared group. */
const NODES = ["chn1", "chn2", "chn3", "chn4", "chn5", "chn6", "chn7", "chn8"];

const rowsSchema = z.array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) }));
const nodeSchema = z.object({
  node: z.string().regex(/^chn[1-8]$/),
  ...{ client: rowsSchema, user: rowsSchema, service: rowsSchema, daemon: rowsSchema },
});

type Shared = Pick<SharedAdmin, "records" | "openRecords" | "group">;

/** What every node has written about itself, each as of one moment. @throws StorageError ENOENT (no shared group), EIO */
export async function allRecords(shared: Shared): Promise<{ uuid: string; reports: NodeRecordsReport[] }> {
  const uuid = uuidOf(shared);
  const reports: NodeRecordsReport[] = [];
  for (const node of NODES) {
    const report = await recordsOf(shared, node);
    if (report !== null) reports.push(report);
  }
  return { uuid, reports };
}

/** @throws StorageError ENOENT: there is no shared group */
export function uuidOf(shared: Shared): string {
  const group = shared.group("primary") ?? shared.group("backup");
  if (group !== undefined) return group.uuid;
  throw new StorageError("ENOENT", "there is no shared group here: there is nothing to back up");
}

/** Null when the node has written nothing yet. */
async function recordsOf(shared: Shared, node: string): Promise<NodeRecordsReport | null> {
  try {
    return await shared.records(node);
  } catch (error) {
    if (isStorageError(error, "ENOENT")) return null;
    throw error;
  }
}

/** What became of the records of one node. */
export interface RestoredNode {
  readonly node: string;
  /** kept: it has records of its own, which are newer than any backup. */
  readonly outcome: "restored" | "kept";
  readonly records: number;
}

/**
 * Give the records of a node back to the shared group, when nothing is there of it: a node that runs writes its own.
 * @throws StorageError EIO (no records of a node), EACCES (another node has the partition)
 */
export async function restoreRecords(shared: Shared, wanted: unknown): Promise<RestoredNode> {
  const parsed = nodeSchema.safeParse(wanted);
  if (!parsed.success) throw new StorageError("EIO", "the backup holds records that are none");
  const { node } = parsed.data;
  if ((await recordsOf(shared, node)) !== null) return { node, outcome: "kept", records: 0 };
  const records = await shared.openRecords({ node, writer: node });
  if (records === null) throw new StorageError("ENOENT", "there is no shared group: make one (shared create)");
  try {
    let count = 0;
    for (const kind of RECORD_KINDS) {
      for (const { key, value } of parsed.data[kind]) count += put(records, kind, key, value);
    }
    await records.durable();
    return { node, outcome: "restored", records: count };
  } finally {
    await records.close();
  }
}

/** Records of a shape that only another version knows are passed over, as everywhere. */
function put<K extends RecordKind>(records: RecordWriter, kind: K, key: string, value: unknown): number {
  const good = RECORD_SCHEMAS[kind].safeParse(value);
  if (!good.success) return 0;
  // It was just found to be of that kind's shape.
  return records.upsert(kind, key, good.data as Parameters<typeof records.upsert<K>>[2]) === "written" ? 1 : 0;
}
