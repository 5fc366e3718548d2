import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { z } from "zod";
import { messageOf } from "../../lib/errors.js";
import { LIMITS } from "../../limits.js";
import { CliError } from "../errors.js";

/** What a rig remembers about itself, in DIR/rig.json. What is on the disks is on the disks. */
const recordSchema = z.strictObject({
  version: z.literal(1),
  diskCount: z.int().positive(),
  diskBytes: z.int().positive(),
  level: z.union([z.literal(1), z.literal(5)]),
  loop: z.boolean(),
  nfsPort: z.int().positive(),
  socket: z.string(),
  /** The file system stands. Until then `rig up` goes on where it was interrupted; afterwards it never makes a disk again. */
  complete: z.boolean(),
  /** Disks can be made to fail and lie. */
  faults: z.boolean().default(true),
  /** Of each disk, for crashes that tear. */
  volatileCache: z.boolean().default(false),
});

export type RigRecord = z.infer<typeof recordSchema>;

export interface RigPaths {
  readonly dir: string;
  readonly record: string;
  readonly config: string;
  readonly disks: string;
  readonly state: string;
  /** The daemon's log, kept over restarts. */
  readonly log: string;
  /** What the daemon last said on stderr: why it did not start. */
  readonly complaint: string;
  readonly pid: string;
  readonly lock: string;
}

export function rigPaths(dir: string): RigPaths {
  const inside = (name: string) => path.join(dir, name);
  return {
    dir,
    record: inside("rig.json"),
    config: inside("stripeward.yaml"),
    disks: inside("disks"),
    state: inside("state"),
    log: inside("stripeward.log"),
    complaint: inside("stripeward.err"),
    pid: inside("state/stripeward.pid"),
    lock: inside(".lock"),
  };
}

export function diskPath({ disks }: RigPaths, number: number): string {
  return path.join(disks, `disk${number}.img`);
}

export function rigExists(dir: string): boolean {
  return existsSync(rigPaths(dir).record);
}

/** @throws CliError when there is no rig, or its record cannot be understood */
export function readRig(dir: string): RigRecord {
  const { record } = rigPaths(dir);
  if (!existsSync(record)) throw new CliError(`there is no rig in ${dir} ("stripeward rig up --dir ${dir}" makes one)`);
  try {
    return recordSchema.parse(JSON.parse(readFileSync(record, "utf8")));
  } catch (error) {
    throw new CliError(`${record} cannot be understood: ${messageOf(error).replace(/\s+/g, " ")}`);
  }
}

export function writeRig(dir: string, record: RigRecord): void {
  const { record: file } = rigPaths(dir);
  writeFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

/** A new rig goes into a folder that is absent or empty, so that it never mixes with what somebody keeps there. */
export function prepareFolder(dir: string): void {
  mkdirSync(dir, { recursive: true });
  const found = readdirSync(dir).find((name) => name !== ".lock");
  if (found !== undefined) throw new CliError(`${dir} is not empty (${found}) and holds no rig: choose another folder`);
}

/** In the rig, unless the kernel's limit on socket paths forbids it: then under the temporary folder, by a hash of the rig's place. */
export function socketPathFor(dir: string): string {
  const inside = path.join(dir, "state/stripeward.sock");
  if (Buffer.byteLength(inside) <= LIMITS.socketPathBytesMax) return inside;
  const hash = createHash("sha256").update(dir).digest("hex").slice(0, 16);
  return path.join(os.tmpdir(), `stripeward-${process.getuid?.() ?? 0}-${hash}.sock`);
}
