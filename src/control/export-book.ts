import { z } from "zod";
import { isStorageError, messageOf, StorageError } from "../lib/errors.js";
import type { Mutex } from "../lib/mutex.js";
import { canonicalNetwork } from "../lib/network.js";
import type { ExportSink, ServedFileSystem } from "./layers.js";
import type { ExportRow, ListedExport } from "./types.js";

/** Where a file system keeps its own exports, so that they travel with it. */
export const EXPORTS_SETTING = "exports";

const wantsClient = "wants an address or a network such as 192.168.0.0/16";

/** An address or a network, IPv4 or IPv6, in one spelling. */
export const clientSchema = z
  .string()
  .max(64)
  .transform((text, context) => {
    const client = canonicalNetwork(text);
    if (client !== null) return client;
    context.addIssue(wantsClient);
    return z.NEVER;
  });

export const exportSchema = z.strictObject({
  path: z.string().regex(/^\/[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, "wants / and the name of a file system, such as /data"),
  client: clientSchema.default("127.0.0.0/8"),
  readOnly: z.boolean().default(false),
  squash: z.enum(["none", "root", "all"]).default("root"),
  anonymousUid: z.int().min(0).max(0xffffffff).default(65534),
  anonymousGid: z.int().min(0).max(0xffffffff).default(65534),
  privilegedPort: z.boolean().default(true),
});

/** A file system of the cabinet; null: it is not served now. */
interface Known {
  readonly name: string;
  readonly served: ServedFileSystem | null;
}

/** The exports of all file systems, kept in each one's own settings. */
export class ExportBook {
  /** The rules as they were last read, by file system: one that has stopped cannot be asked. */
  readonly #last = new Map<string, readonly ExportRow[]>();

  constructor(
    private readonly sink: ExportSink,
    private readonly changing: Mutex,
    private readonly served: (name: string) => ServedFileSystem,
    private readonly known: () => readonly Known[],
  ) {}

  /** Also of file systems that are not served: what their exports are is known, or was. */
  rows(): ListedExport[] {
    return this.known().flatMap(({ name, served }) => {
      const rules = this.#rulesOf(name, served);
      return rules.map((rule) => ({ ...rule, state: served === null ? "not-served" : "served" }) as const);
    });
  }

  /** Make the stored rules visible; also after a reload. */
  publish(served: ServedFileSystem): void {
    const rules = read(served);
    // Of one that is served for reading only whatever the rules say.
    const readable = served.readOnly ? rules.map((rule) => ({ ...rule, readOnly: true })) : rules;
    this.sink.publish(served.fileSystem, readable);
    this.#last.set(served.fileSystem.name, rules);
  }

  publishAll(): void {
    for (const { served } of this.known()) if (served !== null) this.publish(served);
  }

  /** Its file system exists no more. */
  forget(name: string): void {
    this.#last.delete(name);
  }

  #rulesOf(name: string, served: ServedFileSystem | null): readonly ExportRow[] {
    try {
      if (served !== null) return read(served);
    } catch (error) {
      // It has just stopped, or its rules cannot be read: nothing is exported by them.
      if (!isStorageError(error)) throw error;
    }
    return this.#last.get(name) ?? [];
  }

  /** A rule for the same path and client is replaced. ENOENT when the path names no file system. */
  add(rule: ExportRow): Promise<ExportRow> {
    return this.changing.run(async () => {
      const served = this.served(fileSystemOf(rule.path));
      const others = read(served).filter(({ path, client }) => path !== rule.path || client !== rule.client);
      await this.#store(served, [...others, rule]);
      return rule;
    });
  }

  /** All rules of a path, or the one for a client. ENOENT when there is none. */
  remove(path: string, client: string | undefined): Promise<ExportRow[]> {
    return this.changing.run(async () => {
      const served = this.served(fileSystemOf(path));
      const matches = (rule: ExportRow) => rule.path === path && (client === undefined || rule.client === client);
      const rules = read(served);
      const removed = rules.filter(matches);
      if (removed.length === 0) {
        throw new StorageError("ENOENT", `${path} is not exported${client === undefined ? "" : ` to ${client}`}`);
      }
      await this.#store(
        served,
        rules.filter((rule) => !matches(rule)),
      );
      return removed;
    });
  }

  /** Publish first: a rule that the protocol refuses must not be stored. */
  async #store(served: ServedFileSystem, rules: readonly ExportRow[]): Promise<void> {
    const before = read(served);
    this.sink.publish(served.fileSystem, rules);
    try {
      await served.setSetting(EXPORTS_SETTING, JSON.stringify(rules));
      this.#last.set(served.fileSystem.name, rules);
    } catch (error) {
      this.sink.publish(served.fileSystem, before);
      throw error;
    }
  }
}

/** `/data` is file system `data`. */
function fileSystemOf(path: string): string {
  return path.slice(1);
}

/** Earlier versions took 10.0.0.0/08 for 10.0.0.0/8, and passed over a zone. */
function respelled(client: unknown): unknown {
  return typeof client === "string" ? client.replace(/%[^/]*/, "").replace(/\/0+(?=\d)/, "/") : client;
}

function read(served: ServedFileSystem): readonly ExportRow[] {
  const stored = served.getSetting(EXPORTS_SETTING);
  if (stored === null) return [];
  try {
    return z
      .array(exportSchema)
      .parse(JSON.parse(stored, (key, value) => (key === "client" ? respelled(value) : value)));
  } catch (error) {
    throw new StorageError(
      "EIO",
      `the stored exports of ${served.fileSystem.name} cannot be read: ${messageOf(error)}`,
    );
  }
}
