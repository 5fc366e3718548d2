import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { Cabinet } from "../../../src/control/cabinet.js";
import type { DiskSharing } from "../../../src/control/disk-shelf.js";
import { EventLog } from "../../../src/control/event-log.js";
import type { CareSettings } from "../../../src/control/parts.js";
import type { DiskRow } from "../../../src/control/types.js";
import { SILENT } from "../../../src/lib/log.js";
import { settle } from "../../support/hand-clock.js";
import type { FakeGroup } from "./fake-group.js";
import { type FakeWorld, fakeLayers } from "./fake-layers.js";

export const ROOT = { mode: 0o755, uid: 0, gid: 0 };

export interface Furnished {
  readonly cabinet: Cabinet;
  readonly events: EventLog;
  /** The group of this life. */
  readonly group: () => FakeGroup;
  /** Sentences of events of a kind, oldest first. */
  readonly said: (kind: string) => string[];
  readonly row: (number: number) => DiskRow;
  /** The cabinet again, after a clean stop. */
  readonly restart: () => Promise<Furnished>;
}

export interface Furniture {
  readonly care?: Partial<CareSettings>;
  /** How many of the disks make group g; the others are left as they are. */
  readonly members?: number;
  readonly fileSystem?: boolean;
  readonly sharing?: DiskSharing;
}

/** Group g on the first three disks of the world, with file system `data` when asked for. */
export async function furnished(t: TestContext, world: FakeWorld, furniture: Furniture = {}): Promise<Furnished> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-control-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const patterns = [...world.present, "/disks/moved", "/disks/copy"];
  const start = async (): Promise<Furnished> => {
    const events = new EventLog(world.clock, SILENT);
    const cabinet = new Cabinet({
      ...{ node: "chn1", layers: fakeLayers(world), clock: world.clock, events, exports: world.exports },
      ...{ diskPatterns: patterns, knownDisksFile: path.join(folder, "known.json") },
      care: { spareDelaySeconds: 30, diskScanSeconds: 10, ...furniture.care },
      sharing: furniture.sharing,
    });
    t.after(() => cabinet.close());
    await cabinet.open();
    return {
      ...{ cabinet, events },
      group: () => world.live.get("g")!,
      said: (kind) => events.last(1000).flatMap((event) => (event.kind === kind ? [event.what] : [])),
      row: (number) => cabinet.disks().find((disk) => disk.number === number)!,
      restart: async () => {
        await cabinet.close();
        return start();
      },
    };
  };
  const made = await start();
  const count = furniture.members ?? 3;
  const numbers = Array.from({ length: count }, (_, i) => i + 1);
  for (const number of numbers) await made.cabinet.diskAdmin.add({ path: `/disks/d${number}` });
  await made.cabinet.groupAdmin.create({ name: "g", disks: numbers });
  if (furniture.fileSystem === true) {
    await made.cabinet.fileSystems.create({ name: "data", level: 5, sizeBytes: 320 * 1024 * 1024, root: ROOT });
  }
  await settle();
  world.trace.length = 0;
  return made;
}

/** What the group was asked to do. */
export function orders(world: FakeWorld, verb: string): string[] {
  return world.trace.filter((line) => line.startsWith(`${verb} `));
}

/** As furnished, with a file system and a spare, of disks at /by-hand/d1 to d4 that the configuration does not name. */
export async function furnishedByHand(t: TestContext, world: FakeWorld) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stripeward-control-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const knownDisksFile = path.join(folder, "known.json");
  let cabinet: Cabinet | null = null;
  const start = async () => {
    await cabinet?.close();
    const events = new EventLog(world.clock, SILENT);
    const next = new Cabinet({
      ...{ node: "chn1", layers: fakeLayers(world), clock: world.clock, events, exports: world.exports },
      ...{ diskPatterns: [], knownDisksFile, care: { spareDelaySeconds: 30, diskScanSeconds: 10 } },
    });
    cabinet = next;
    t.after(() => next.close());
    await next.open();
    return { cabinet: next, events };
  };
  const made = await start();
  for (const number of [1, 2, 3]) await made.cabinet.diskAdmin.add({ path: `/by-hand/d${number}` });
  await made.cabinet.diskAdmin.add({ path: "/by-hand/d4", spare: true });
  await made.cabinet.groupAdmin.create({ name: "g", disks: [1, 2, 3] });
  await made.cabinet.fileSystems.create({ name: "data", level: 5, sizeBytes: 320 * 1024 * 1024, root: ROOT });
  return {
    restart: start,
    /** The daemon again, which knows of no disk. */
    lostState: () => {
      rmSync(knownDisksFile);
      return start();
    },
  };
}
