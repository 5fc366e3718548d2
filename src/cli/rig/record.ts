import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { z } from "zod";
import { messageOf } from "../../lib/errors.js";
import { replaceJson } from "../../lib/json-file.js";
import { makeFolder } from "../../lib/make-folder.js";
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
  /** Daemons that look at the same disks. */
  nodes: z.union([z.literal(1), z.literal(2)]).default(1),
  /** It has a shared LU and a backup of it, each on a disk of its own. */
  shared: z.boolean().default(false),
  /** Its daemons answer as the port mapper too, for kernel clients that lock. */
  portmap: z.boolean().default(false),
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
  readonly disks: string;
  readonly lock: string;
}

/** One daemon of a rig. */
export interface RigNode {
  readonly name: string;
  readonly partner: string | null;
  /** Where it serves; in a pair each node has an address of its own, and the port is the same. */
  readonly host: string;
  readonly socket: string;
  readonly config: string;
  readonly state: string;
  /** The daemon's log, kept over restarts. */
  readonly log: string;
  /** What the daemon last said on stderr: why it did not start. */
  readonly complaint: string;
  readonly pid: string;
}

/** Names of the nodes of a pair, as the channel adapters of a cabinet are paired. */
const NODE_NAMES = ["chn1", "chn5"] as const;

export function rigPaths(dir: string): RigPaths {
  const inside = (name: string) => path.join(dir, name);
  return {
    dir,
    record: inside("rig.json"),
    disks: inside("disks"),
    lock: inside(".lock"),
  };
}

/** The first has the names that a rig of one node has. */
export function rigNodes(dir: string, { nodes }: Pick<RigRecord, "nodes">): RigNode[] {
  return NODE_NAMES.slice(0, nodes).map((name, i) => {
    const base = i === 0 ? "stripeward" : name;
    const state = path.join(dir, i === 0 ? "state" : `state-${name}`);
    return {
      name,
      partner: nodes === 1 ? null : NODE_NAMES[1 - i]!,
      host: `127.0.0.${i + 1}`,
      socket: socketPathFor(dir, path.join(state, "stripeward.sock")),
      config: path.join(dir, `${base}.yaml`),
      state,
      log: path.join(dir, `${base}.log`),
      complaint: path.join(dir, `${base}.err`),
      pid: path.join(state, "stripeward.pid"),
    };
  });
}

export function diskPath({ disks }: RigPaths, number: number): string {
  return path.join(disks, `disk${number}.img`);
}

/** The shared LU and its backup, when the rig has them. */
export function sharedPaths({ disks }: RigPaths, { shared }: Pick<RigRecord, "shared">): string[] {
  return shared ? ["shared", "shared-backup"].map((name) => path.join(disks, `${name}.img`)) : [];
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
  replaceJson(file, record);
}

/** A new rig goes into a folder that is absent or empty, so that it never mixes with what somebody keeps there. */
export function prepareFolder(dir: string): void {
  makeFolder(dir);
  const found = readdirSync(dir).find((name) => name !== ".lock");
  if (found !== undefined) throw new CliError(`${dir} is not empty (${found}) and holds no rig: choose another folder`);
}

/** In the rig, unless the kernel's limit on socket paths forbids it: then under the temporary folder, by a hash of the rig's place. */
export function socketPathFor(dir: string, inside = path.join(dir, "state/stripeward.sock")): string {
  if (Buffer.byteLength(inside) <= LIMITS.socketPathBytesMax) return inside;
  const hash = createHash("sha256").update(inside).digest("hex").slice(0, 16);
  return path.join(os.tmpdir(), `stripeward-${process.getuid?.() ?? 0}-${hash}.sock`);
}
