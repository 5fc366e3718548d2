import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";
import { SystemClock } from "../../../src/lib/clock.js";
import { SILENT } from "../../../src/lib/log.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { formatPageStore } from "../../../src/pagestore/format.js";
import { type OpenOptions, openPageStore } from "../../../src/pagestore/open.js";
import type { LogPageStore } from "../../../src/pagestore/store.js";
import { MemoryLu, type MemoryLuOptions } from "../../support/memory-lu.js";

export const clock = new SystemClock();

/** A directory that is removed when the file's tests have ended. */
export function temporaryDirectory(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "stripeward-pagestore-"));
  after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export const scratchDir = temporaryDirectory();

export async function formattedLu(options: Partial<MemoryLuOptions> & { logBytes?: number } = {}): Promise<MemoryLu> {
  const { logBytes, ...rest } = options;
  const lu = new MemoryLu({ sizeBytes: 4 * MIB, ...rest });
  await formatPageStore({
    lu,
    kind: "test",
    name: "unit",
    random: new SeededRandom(7),
    ...(logBytes === undefined ? {} : { logBytes }),
  });
  return lu;
}

export function open(lu: MemoryLu, options: Partial<OpenOptions> = {}): Promise<LogPageStore> {
  return openPageStore({ lu, scratchDir, clock, log: SILENT, cacheBytes: MIB, ...options });
}

export interface Row {
  readonly k: number;
  readonly v: string;
}

export function rows(store: LogPageStore): Row[] {
  return store.db.prepare("SELECT k, v FROM t ORDER BY k").all() as Row[];
}

export function createTable(store: LogPageStore): void {
  store.db.exec("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL)");
}

export function put(store: LogPageStore, k: number, v: string): void {
  store.db.prepare("INSERT OR REPLACE INTO t VALUES (?, ?)").run(k, v);
}
