import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  formatFileSystem,
  type MountedFileSystem,
  type MountFileSystemOptions,
  mountFileSystem,
} from "../../src/fs/file-system.js";
import type { FileSystemEvent } from "../../src/fs/namespace.js";
import type { FileId } from "../../src/fs/vfs.js";
import { SILENT } from "../../src/lib/log.js";
import { SeededRandom } from "../../src/lib/prng.js";
import { KIB, MIB } from "../../src/lib/units.js";
import { Arena } from "../../src/parity/arena.js";
import { MemoryLu } from "./memory-lu.js";
import { ALICE, StepClock } from "./namespace-fixture.js";
import { PlayedFolder } from "./played-folder.js";

export interface MemoryFileSystemOptions {
  readonly seed?: number;
  readonly dataBytes?: number;
  readonly metadataBytes?: number;
  readonly rootMode?: number;
  readonly inodesCachedMax?: number;
  /** Rot on either LU leaves a good copy behind. */
  readonly redundant?: boolean;
  readonly without?: MountFileSystemOptions["without"];
}

const folders = new Set<string>();

/** Also a test that ends without `end`, or breaks its file system, leaves nothing behind. */
process.once("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export function scratchFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "stripeward-fs-"));
  folders.add(folder);
  return folder;
}

/** The whole file system over two LUs in memory that can crash. */
export class MemoryFileSystem {
  fs!: MountedFileSystem;
  readonly clock = new StepClock();
  readonly events: FileSystemEvent[] = [];
  readonly #options: MemoryFileSystemOptions;
  readonly #random: SeededRandom;
  readonly scratchDir = scratchFolder();
  readonly folder = new PlayedFolder();
  data: MemoryLu;
  metadata: MemoryLu;

  private constructor(options: MemoryFileSystemOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed ?? 1);
    const random = this.#random;
    const { redundant = false } = options;
    this.data = new MemoryLu({
      sizeBytes: options.dataBytes ?? 32 * MIB,
      stripeBytes: 256 * KIB,
      random,
      redundant,
      name: "data",
    });
    const metadataBytes = options.metadataBytes ?? 32 * MIB;
    this.metadata = new MemoryLu({ sizeBytes: metadataBytes, redundant, random, name: "data.meta", number: 2 });
  }

  static async open(options: MemoryFileSystemOptions = {}): Promise<MemoryFileSystem> {
    const made = new MemoryFileSystem(options);
    const rootMode = options.rootMode ?? 0o777;
    await formatFileSystem({ name: "test", ...made.#common(), rootMode });
    await made.mount();
    return made;
  }

  async mount({ readOnly = false } = {}): Promise<void> {
    const arena = new Arena({ byteCount: 16 * MIB });
    const { inodesCachedMax, without } = this.#options;
    this.fs = await mountFileSystem({
      ...this.#common(),
      arena,
      scratchFolder: this.folder,
      readOnly,
      cacheBytes: 4 * MIB,
      sqliteCacheBytes: 4 * MIB,
      onEvent: (event) => this.events.push(event),
      ...(inodesCachedMax !== undefined && { inodesCachedMax }),
      ...(without && { without }),
    });
  }

  async remount(): Promise<void> {
    await this.fs.close();
    await this.mount();
  }

  /** Power fails now: what was not flushed may be there or not. Then it is mounted again. */
  async crash(): Promise<void> {
    this.data = this.data.crash({ keep: "random" });
    this.metadata = this.metadata.crash({ keep: "random" });
    await this.mount();
  }

  async end(): Promise<void> {
    await this.fs.close();
    rmSync(this.scratchDir, { recursive: true, force: true });
  }

  #common() {
    return {
      metadataLu: this.metadata,
      dataLu: this.data,
      clock: this.clock,
      random: this.#random,
      log: SILENT,
      scratchDir: this.scratchDir,
    };
  }
}

/** Bytes that chance makes, the same for the same seed. */
export function filled(byteCount: number, seed: number): Buffer {
  const content = Buffer.alloc(byteCount);
  new SeededRandom(seed).fill(content);
  return content;
}

/** Write it stably, in pieces as clients send them. */
export async function put(memory: MemoryFileSystem, file: FileId, content: Buffer, at = 0): Promise<void> {
  for (let done = 0; done < content.length; done += 128 * KIB) {
    await memory.fs.write(ALICE, file, at + done, content.subarray(done, done + 128 * KIB), "stable");
  }
}
