import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { flockSync } from "fs-ext";
import { z } from "zod";
import { messageOf, StorageError } from "../lib/errors.js";
import { makeFolder } from "../lib/make-folder.js";

const stepSchema = z.object({
  /** `shared`, `install chn1`, … unique in the sequence. */
  id: z.string(),
  /** What it does, for people. */
  what: z.string(),
  /** Whom it concerns; null: both nodes, or none. */
  node: z.string().nullable(),
  state: z.enum(["pending", "running", "done", "failed"]),
  /** user@host of the terminal, or the node that reported. */
  by: z.string().nullable(),
  /** RFC 3339, UTC: of the last attempt. */
  begun: z.string().nullable(),
  ended: z.string().nullable(),
  /** What came of it, or why it failed. */
  outcome: z.string().nullable(),
  attempts: z.int().min(0),
});
const recordSchema = z.object({
  version: z.literal(1),
  /** The plan as it was when the set-up began, or last went on. */
  plan: z.record(z.string(), z.unknown()),
  /** What nodes that are installed run. */
  versions: z.record(z.string(), z.string()),
  steps: z.array(stepSchema),
});

export type StepRow = z.infer<typeof stepSchema>;
export type ClusterRecord = z.infer<typeof recordSchema>;
export type StepPlan = Pick<StepRow, "id" | "what" | "node">;

const FILE = "cluster.json";

/**
 * Which steps of a set-up are done: one file, on the disk before and after each step. Written to another name, flushed, renamed, and the
 * folder flushed: after a crash either the old or the new one is there, whole.
 */
export class RecordBook {
  #record: ClusterRecord;

  private constructor(
    readonly folder: string,
    record: ClusterRecord,
    private readonly now: () => Date,
  ) {
    this.#record = record;
  }

  /** @returns null when no set-up has begun here @throws StorageError EIO when the file is none of ours */
  static read(folder: string): ClusterRecord | null {
    const file = path.join(folder, FILE);
    let written: string;
    try {
      written = readFileSync(file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new StorageError("EIO", `${file} cannot be read: ${messageOf(error)}`);
    }
    try {
      return recordSchema.parse(JSON.parse(written));
    } catch {
      throw new StorageError("EIO", `${file} is no record of a set-up by this version`);
    }
  }

  /** Go on with the record of the folder, or begin one with every step pending. */
  static open(
    folder: string,
    plan: Readonly<Record<string, unknown>>,
    steps: readonly StepPlan[],
    now = () => new Date(),
  ): RecordBook {
    makeFolder(folder, 0o700);
    const found = RecordBook.read(folder);
    const before = new Map(found?.steps.map((step) => [step.id, step]));
    const rows = steps.map((step) => before.get(step.id) ?? pending(step));
    const record: ClusterRecord = { version: 1, plan: { ...plan }, versions: found?.versions ?? {}, steps: rows };
    const book = new RecordBook(folder, record, now);
    book.#write();
    return book;
  }

  get record(): ClusterRecord {
    return this.#record;
  }

  isDone(id: string): boolean {
    return this.#step(id).state === "done";
  }

  begin(id: string, by: string): void {
    const { attempts } = this.#step(id);
    const begun = this.now().toISOString();
    this.#change(id, { state: "running", by, begun, ended: null, outcome: null, attempts: attempts + 1 });
  }

  done(id: string, by: string, outcome: string): void {
    this.#change(id, { state: "done", by, ended: this.now().toISOString(), outcome });
  }

  failed(id: string, by: string, why: string): void {
    this.#change(id, { state: "failed", by, ended: this.now().toISOString(), outcome: why });
  }

  setVersion(node: string, version: string): void {
    this.#record = { ...this.#record, versions: { ...this.#record.versions, [node]: version } };
    this.#write();
  }

  #step(id: string): StepRow {
    const step = this.#record.steps.find((one) => one.id === id);
    if (step === undefined) throw new StorageError("EINVAL", `the set-up has no step "${id}"`);
    return step;
  }

  #change(id: string, change: Partial<StepRow>): void {
    const changed = { ...this.#step(id), ...change };
    this.#record = { ...this.#record, steps: this.#record.steps.map((one) => (one.id === id ? changed : one)) };
    this.#write();
  }

  #write(): void {
    const file = path.join(this.folder, FILE);
    writeDurably(file, `${JSON.stringify(this.#record, null, 2)}\n`);
  }
}

function pending({ id, what, node }: StepPlan): StepRow {
  return { id, what, node, state: "pending", by: null, begun: null, ended: null, outcome: null, attempts: 0 };
}

function writeDurably(file: string, content: string): void {
  const descriptor = openSync(`${file}.new`, "w", 0o600);
  try {
    writeSync(descriptor, content);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(`${file}.new`, file);
  const folder = openSync(path.dirname(file), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** One set-up at a time works with a folder; the kernel drops the lock with the process. @returns releases it @throws StorageError EBUSY */
export function lockFolder(folder: string): () => void {
  makeFolder(folder, 0o700);
  const descriptor = openSync(path.join(folder, "lock"), "w", 0o600);
  try {
    flockSync(descriptor, "exnb");
  } catch {
    closeSync(descriptor);
    throw new StorageError("EBUSY", `another "cluster init" is at work in ${folder}`);
  }
  return () => closeSync(descriptor);
}

/** user@host: who does what the terminal does. */
export function terminalName(): string {
  let user: string;
  try {
    user = os.userInfo().username;
  } catch {
    user = String(process.getuid?.() ?? "unknown");
  }
  return `${user}@${os.hostname()}`;
}
