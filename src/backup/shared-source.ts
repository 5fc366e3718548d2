import { type BackupHeader, jsonRecord, type OutgoingRecord, RecordType } from "./format.js";

/** All records of a backup of the shared LU: its header, and what each node has written about itself. */
export function* sharedRecords(header: BackupHeader, nodes: readonly object[]): Generator<OutgoingRecord> {
  yield jsonRecord(RecordType.header, header);
  for (const node of nodes) yield jsonRecord(RecordType.node, node);
  yield jsonRecord(RecordType.end, { records: 1 + nodes.length, groups: 0, dataBytes: 0 });
}
