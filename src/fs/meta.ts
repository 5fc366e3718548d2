import type Database from "better-sqlite3";
import { StorageError } from "../lib/errors.js";

/** Keys of the meta table. Numbers are decimal text, names and settings UTF-8, the rest raw bytes. */
export const MetaKey = {
  schemaVersion: "schema-version",
  id: "id",
  name: "name",
  handleKey: "handle-key",
  dataLuUuid: "data-lu-uuid",
  nextIno: "next-ino",
  inodeCount: "inode-count",
  /** Present only after a clean close: nothing unflushed was lost, so the verifier of that mount still holds. */
  cleanVerifier: "clean-verifier",
  settingPrefix: "setting:",
} as const;

/** Small facts about the whole file system, one row each. */
export class MetaTable {
  readonly #get: Database.Statement<[string], Buffer>;
  readonly #put: Database.Statement<[string, Buffer]>;
  readonly #delete: Database.Statement<[string]>;

  constructor(db: Database.Database) {
    this.#get = db.prepare<[string], Buffer>("SELECT value FROM meta WHERE key = ?").pluck();
    this.#put = db.prepare(
      "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    );
    this.#delete = db.prepare("DELETE FROM meta WHERE key = ?");
  }

  bytes(key: string): Buffer | undefined {
    return this.#get.get(key);
  }

  text(key: string): string | undefined {
    return this.#get.get(key)?.toString("utf8");
  }

  /** @throws StorageError EIO when the row is missing or no number: every file system has it. */
  number(key: string): number {
    const value = Number(this.text(key) ?? Number.NaN);
    if (!Number.isSafeInteger(value)) throw new StorageError("EIO", "a number is missing in the meta table", { key });
    return value;
  }

  /** @throws StorageError EIO when the row is missing. */
  required(key: string): Buffer {
    const value = this.bytes(key);
    if (value === undefined) throw new StorageError("EIO", "a row is missing in the meta table", { key });
    return value;
  }

  put(key: string, value: Buffer | string | number): void {
    this.#put.run(key, Buffer.isBuffer(value) ? value : Buffer.from(String(value), "utf8"));
  }

  delete(key: string): void {
    this.#delete.run(key);
  }
}
