import type { FileSystem } from "../fs/vfs.js";
import type { ExportRule, ExportTable } from "../protocol/exports.js";
import type { ReplyCache } from "../protocol/rpc/reply-cache.js";
import type { ExportSink } from "./layers.js";
import type { ExportRow } from "./types.js";

/** Puts stored rules into the protocol's table: all rules of a path become one export, the narrowest network first. */
export class ExportBoard implements ExportSink {
  readonly #paths = new Map<FileSystem, ReadonlySet<string>>();

  constructor(
    private readonly table: ExportTable,
    private readonly replies: ReplyCache,
  ) {}

  /** The answers that the file system kept count from here on: before the first request for it can arrive. */
  publish(fileSystem: FileSystem, rows: readonly ExportRow[]): void {
    this.replies.adopt(fileSystem.id, fileSystem.takeKeptReplies());
    const paths = new Set(rows.map(({ path }) => path));
    for (const path of paths) {
      const rules = rows.filter((row) => row.path === path).sort((a, b) => prefixBits(b.client) - prefixBits(a.client));
      this.table.add({ path, fileSystem, rules: rules.map(ruleOf) });
    }
    for (const path of this.#paths.get(fileSystem) ?? []) if (!paths.has(path)) this.table.remove(path);
    this.#paths.set(fileSystem, paths);
  }

  withdraw(fileSystem: FileSystem): void {
    for (const path of this.#paths.get(fileSystem) ?? []) this.table.remove(path);
    this.#paths.delete(fileSystem);
  }

  setUnserved(fileSystems: readonly string[]): void {
    this.table.setUnserved(fileSystems.map((name) => `/${name}`));
  }
}

/** The first rule that matches counts, so one address comes before the network that holds it. */
function prefixBits(client: string): number {
  const [, bits] = client.split("/");
  return bits === undefined ? 128 : Number(bits);
}

function ruleOf(row: ExportRow): ExportRule {
  return {
    clients: row.client,
    access: row.readOnly ? "ro" : "rw",
    squash: row.squash,
    anonUid: row.anonymousUid,
    anonGid: row.anonymousGid,
    secure: row.privilegedPort,
  };
}
