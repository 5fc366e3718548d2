import { z } from "zod";
import { KIB } from "../../lib/units.js";

/**
 * What a node writes about itself on its partition, so that its partner can go on where it ended. Four kinds, a table each; a record is a
 * key, a value (JSON, of one of the shapes below) and the time of its last change.
 */
export const RECORD_KINDS = ["client", "user", "service", "daemon"] as const;
export type RecordKind = (typeof RECORD_KINDS)[number];

const text = z.string().max(KIB);
const count = z.int().min(0);
const id = z.int().min(0).max(0xffffffff);
/** RFC 3339, UTC. */
const time = z.string().max(40);

/** Who uses the node: what is mounted by whom, who holds locks, who was seen when. */
const client = z.discriminatedUnion("what", [
  z.object({ what: z.literal("mount"), host: text, path: text }),
  z.object({ what: z.literal("seen"), host: text, connections: count, lastSeen: time }),
  z.object({ what: z.literal("lock-owner"), host: text, address: text.optional(), files: count }),
]);

/** Who is who: whom the clients' users are taken for, and who may administer. */
const user = z.discriminatedUnion("what", [
  z.object({ what: z.literal("administrator"), uid: id, how: text }),
  z.object({
    ...{ what: z.literal("identity"), path: text, client: text, squash: z.enum(["none", "root", "all"]) },
    ...{ anonymousUid: id, anonymousGid: id },
  }),
]);

/** What is served, where, and how it is. */
const service = z.discriminatedUnion("what", [
  z.object({ what: z.literal("service"), name: text, state: z.enum(["running", "stopped"]) }),
  z.object({ what: z.literal("address"), name: text, host: text, port: z.int().min(0).max(65535) }),
  z.object({ what: z.literal("file-system"), name: text, group: text, state: z.enum(["mounted", "failed"]) }),
  z.object({ what: z.literal("export"), path: text, client: text, readOnly: z.boolean(), privilegedPort: z.boolean() }),
]);

/** The process that serves, and the state of its parts. */
const daemon = z.discriminatedUnion("what", [
  z.object({
    ...{ what: z.literal("process"), pid: count, hostName: text, bootId: text, version: text },
    startedAt: time,
  }),
  z.object({ what: z.literal("part"), name: text, state: text }),
]);

export const RECORD_SCHEMAS = { client, user, service, daemon } as const;
export type RecordValue<K extends RecordKind> = z.infer<(typeof RECORD_SCHEMAS)[K]>;

export interface NodeRecord<K extends RecordKind = RecordKind> {
  readonly key: string;
  readonly value: RecordValue<K>;
  /** Milliseconds since 1970 of its last change. */
  readonly updatedMs: number;
}

/** Rows of a kind; what is beyond is refused. Clients come and go, the others are a handful. */
export const RECORDS_MAX: Readonly<Record<RecordKind, number>> = {
  client: 4096,
  user: 1024,
  service: 1024,
  daemon: 256,
};
export const KEY_BYTES_MAX = 2 * KIB;
export const VALUE_BYTES_MAX = 8 * KIB;

/** written: is part of the next commit. unchanged: was there already. refused: there is no room; who keeps records is told once. */
export type UpsertResult = "written" | "unchanged" | "refused";

/** Who keeps a node's records. Changes are applied at once and durable after `durable()`. */
export interface RecordWriter {
  /** Never throws into the caller's work, whatever the state of the disks. */
  upsert<K extends RecordKind>(kind: K, key: string, value: RecordValue<K>): UpsertResult;
  /** @returns whether it was there */
  delete(kind: RecordKind, key: string): boolean;
  list<K extends RecordKind>(kind: K): NodeRecord<K>[];
  /** Everything applied before this call is on the disks when it resolves. @throws StorageError EIO; ESTALE: the partition has a newer owner */
  durable(): Promise<void>;
  close(): Promise<void>;
}
