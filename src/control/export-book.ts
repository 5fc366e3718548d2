import { isIP } from "node:net";
import { z } from "zod";
import { messageOf, StorageError } from "../lib/errors.js";
import type { Mutex } from "../lib/mutex.js";
import type { ExportSink, ServedFileSystem } from "./layers.js";
import type { ExportRow } from "./types.js";

/** Where a file system keeps its own exports, so that they travel with it. */
export const EXPORTS_SETTING = "exports";

/** Address or CIDR, IPv4 or IPv6. */
export function isClient(text: string): boolean {
  const [address, bits, rest] = text.split("/");
  const family = isIP(address ?? "");
  if (family === 0 || rest !== undefined) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

export const exportSchema = z.strictObject({
  path: z.string().regex(/^\/[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, "wants / and the name of a file system, such as /data"),
  client: z
    .string()
    .max(64)
    .refine(isClient, "wants an address or a network such as 192.168.0.0/16")
    .default("127.0.0.0/8"),
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

function read(served: ServedFileSystem): readonly ExportRow[] {
  const stored = served.getSetting(EXPORTS_SETTING);
  if (stored === null) return [];
  try {
    return z.array(exportSchema).parse(JSON.parse(stored));
  } catch (error) {
    throw new StorageError(
      "EIO",
      `the stored exports of ${served.fileSystem.name} cannot be read: ${messageOf(error)}`,
    );
  }
}
