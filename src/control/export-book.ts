import { z } from "zod";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Mutex } from "../lib/mutex.js";
import { canonicalNetwork } from "../lib/network.js";
import type { ExportSink, ServedFileSystem } from "./layers.js";
import type { ExportRow } from "./types.js";

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

interface Mounted {
  readonly name: string;
  readonly served: ServedFileSystem;
}

/** The exports of all mounted file systems, kept in each one's own settings. */
export class ExportBook {
  constructor(
    private readonly sink: ExportSink,
    private readonly changing: Mutex,
    private readonly served: (name: string) => ServedFileSystem,
    private readonly mounted: () => readonly Mounted[],
  ) {}

  rows(): ExportRow[] {
    return this.mounted().flatMap(({ served }) => read(served));
  }

  /** Make the stored rules visible; also after a reload. */
  publish(served: ServedFileSystem): void {
    this.sink.publish(served.fileSystem, read(served));
  }

  publishAll(): void {
    for (const { served } of this.mounted()) this.publish(served);
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
