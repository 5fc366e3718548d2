import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { formatFileSystem, mountFileSystem } from "../../../src/fs/file-system.js";
import { ROOT_CREDENTIALS } from "../../../src/fs/vfs.js";
import { SILENT } from "../../../src/lib/log.js";
import { KIB, MIB } from "../../../src/lib/units.js";
import { createGroup, initDisk } from "../../../src/lu/group.js";
import type { LabelledDisk } from "../../../src/raid/contract.js";
import { Drive } from "../drive.js";
import { arena, TIGHT_BUFFERS } from "../machine.js";
import type { Platter } from "../platter.js";
import { SimulatedClock, Simulation } from "../simulation.js";
import { directoryName } from "./file-server.js";

export const MEMBERS = 3;
/** The smallest that a label takes. */
export const DISK_BYTES = 32 * MIB;
export const CLIENTS_MAX = 3;
const CHUNK_BYTES = 16 * KIB;
const DATA_BYTES = 4 * MIB;
const METADATA_BYTES = 3 * MIB;
const LOG_BYTES = 512 * KIB;

let made: Promise<readonly Platter[]> | null = null;

/** Disks of a group with an empty file system, cleanly closed: every run begins with a copy. Made once in a process, always the same. */
export function goldenPlatters(): Promise<readonly Platter[]> {
  made ??= make();
  return made;
}

async function make(): Promise<readonly Platter[]> {
  const simulation = new Simulation(1);
  const drives = Array.from({ length: MEMBERS }, (_, index) => new Drive({ simulation, index, sizeBytes: DISK_BYTES }));
  const scratchDir = mkdtempSync(path.join(tmpdir(), "stripeward-golden-"));
  try {
    await simulation.until(furnish(simulation, drives, scratchDir), "the first file system");
  } finally {
    rmSync(scratchDir, { recursive: true, force: true });
  }
  return drives.map(({ media }) => media.platter);
}

async function furnish(simulation: Simulation, drives: readonly Drive[], scratchDir: string): Promise<void> {
  const { random } = simulation;
  const clock = new SimulatedClock(simulation);
  arena.begin();
  const disks: LabelledDisk[] = [];
  for (const drive of drives) {
    disks.push(await initDisk(drive.open(`/dev/shared${drive.index}`), { number: drive.index + 1, random }));
  }
  const group = await createGroup(disks, {
    ...{ arena, clock, random, log: SILENT, buffers: TIGHT_BUFFERS, name: "g", nodes: ["chn1", "chn2"] },
    ...{ chunkBytes: CHUNK_BYTES, rowBytes: 8 * CHUNK_BYTES, parityRun: 2 },
  });
  await group.createLu("data", 5, DATA_BYTES);
  await group.createLu("data.meta", 1, METADATA_BYTES);
  const lus = { dataLu: group.openLu(1), metadataLu: group.openLu(2) };
  await formatFileSystem({ ...lus, name: "sim", logBytes: LOG_BYTES, clock, random, log: SILENT, scratchDir });
  const fs = await mountFileSystem({
    ...{ ...lus, clock, random, log: SILENT, scratchDir, arena, cacheBytes: 4 * MIB, sqliteCacheBytes: MIB },
  });
  for (let i = 0; i < CLIENTS_MAX; i++) await fs.mkdir(ROOT_CREDENTIALS, fs.root, directoryName(i), {});
  await fs.close();
  await group.close();
}
