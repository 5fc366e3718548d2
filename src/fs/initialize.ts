import type Database from "better-sqlite3";
import type { Clock } from "../lib/clock.js";
import { StorageError } from "../lib/errors.js";
import type { Random } from "../lib/prng.js";
import { setAtime, touchModified } from "./attributes.js";
import { Inode } from "./inode.js";
import { prepareInodeStatements, putInode } from "./inode-row.js";
import { MetaKey, MetaTable } from "./meta.js";
import { DIRECTORY_SIZE_BYTES } from "./ops/create.js";
import { MODE_MASK } from "./permission.js";
import { createNamespaceTables, ROOT_INO, SCHEMA_VERSION } from "./schema.js";
import { FileKind } from "./vfs.js";

export interface InitializeOptions {
  /** Shown to people; 1 to 255 bytes of UTF-8. */
  readonly name: string;
  readonly dataLuUuid: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Default 0o755. */
  readonly rootMode?: number;
  readonly rootUid?: number;
  readonly rootGid?: number;
}

const HANDLE_KEY_BYTES = 32;

/** Write the namespace of a new file system into an empty database: tables, identity and root directory. The caller commits. */
export function initializeNamespace(db: Database.Database, options: InitializeOptions): void {
  const nameBytes = Buffer.byteLength(options.name);
  if (nameBytes === 0 || nameBytes > 255) throw new StorageError("EINVAL", "a file system's name has 1 to 255 bytes");
  createNamespaceTables(db);
  const meta = new MetaTable(db);
  const handleKey = Buffer.alloc(HANDLE_KEY_BYTES);
  options.random.fill(handleKey);
  meta.put(MetaKey.schemaVersion, SCHEMA_VERSION);
  meta.put(MetaKey.id, options.random.next());
  meta.put(MetaKey.name, options.name);
  meta.put(MetaKey.handleKey, handleKey);
  meta.put(MetaKey.dataLuUuid, options.dataLuUuid);
  meta.put(MetaKey.nextIno, ROOT_INO + 1);
  meta.put(MetaKey.inodeCount, 1);
  putInode(prepareInodeStatements(db), rootDirectory(options));
}

function rootDirectory(options: InitializeOptions): Inode {
  const root = new Inode(ROOT_INO, options.random.next(), FileKind.directory);
  const now = options.clock.wallTime();
  root.mode = (options.rootMode ?? 0o755) & MODE_MASK;
  root.nlink = 2;
  root.uid = options.rootUid ?? 0;
  root.gid = options.rootGid ?? 0;
  root.sizeBytes = DIRECTORY_SIZE_BYTES;
  root.parentIno = ROOT_INO;
  setAtime(root, now);
  touchModified(root, now);
  return root;
}
