import { deepEqual, equal } from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { PairConfig } from "../../../src/config/schema.js";
import { type AddressCheck, AddressCommand } from "../../../src/control/address-command.js";
import { EventLog } from "../../../src/control/event-log.js";
import { Readiness, type ReadinessParts } from "../../../src/control/readiness.js";
import type { GroupStanding } from "../../../src/ha/pair-parts.js";
import { thisProcess } from "../../../src/ha/process-identity.js";
import type { Heartbeat } from "../../../src/ha/record.js";
import { SILENT } from "../../../src/lib/log.js";
import { HandClock, settle } from "../../support/hand-clock.js";

const directory = mkdtempSync(path.join(os.tmpdir(), "readiness-"));
test.after(() => rmSync(directory, { recursive: true }));
const disk = path.join(directory, "disk1.img");
writeFileSync(disk, "");

const clock = new HandClock();
const self = { ...thisProcess(), version: "1.2.3", service: { host: "127.0.0.1", port: 2049 } };
const HEARTBEAT: Heartbeat = {
  ...{ node: "chn5", sequence: 7, bootId: self.bootId, pid: self.pid, processStart: self.processStart, network: "" },
  ...{ version: "1.2.3", service: { host: "127.0.0.1", port: 2049 }, owned: [], wants: [], letGo: [], trouble: [] },
  ...{ reach: null, ailing: [], lacks: [], silent: [] },
  wallMs: clock.wallTime().seconds * 1000,
};
const GROUP = { uuid: "g", name: "g", paths: [disk], memberCount: 1, home: "chn5", role: "watched" } as const;

const SETTINGS: PairConfig = {
  ...{ partner: "chn5", fenceCommand: null, addressCommand: null, watchdogDevice: null, reach: [] },
  ...{ heartbeatMs: 200, leaseMs: 10_000 },
};

interface Seen {
  readonly heartbeat?: Partial<Heartbeat> | null;
  readonly groups?: readonly Partial<GroupStanding>[];
  readonly config?: Partial<PairConfig>;
  readonly directIo?: boolean;
  readonly unheard?: readonly string[];
  readonly command?: ReadinessParts["command"];
  readonly stuck?: readonly string[];
  /** Paths that are there by name and do not answer. */
  readonly lost?: readonly string[];
  readonly cutOff?: readonly string[];
  readonly scratch?: string;
}

/** What stands in the way for a node that sees this. */
async function problems(seen: Seen) {
  const { readiness, pair, events } = made(seen);
  const found = await readiness.check();
  deepEqual(pair.trouble, found, "it travels with the heartbeat");
  equal(events.last(10).length, found.length === 0 ? 0 : 1, "and it is told once");
  return found;
}

/** What it should know all the same. */
async function remarks(seen: Seen) {
  const { readiness, events } = made(seen);
  deepEqual(await readiness.check(), []);
  await readiness.check();
  deepEqual(
    events.last(10).map(({ what }) => what),
    readiness.remarks,
    "it is told once",
  );
  return readiness.remarks;
}

function made(seen: Seen) {
  const {
    heartbeat = {},
    groups = [{}],
    config = {},
    directIo = false,
    unheard = [],
    command = null,
    stuck = [],
    lost = [],
    cutOff = [],
    scratch = directory,
  } = seen;
  const pair: ReadinessParts["pair"] = {
    ...{ name: "chn1", partnerName: "chn5", partnerIsAlive: true, self, trouble: null, lacks: [] },
    partner: () => {
      const seen = heartbeat === null ? null : { ...HEARTBEAT, ...heartbeat };
      return { heartbeat: seen, silentMs: 10, wallStartMs: seen === null ? null : seen.wallMs - clock.monotonicMs() };
    },
    groups: () => groups.map((group) => ({ ...GROUP, epoch: 1, complaint: "", ...group })),
  };
  const events = new EventLog(clock, SILENT);
  const readiness = new Readiness({
    ...{ pair, config: { ...SETTINGS, ...config }, directIo, clock, events, scratch },
    ...{
      sees: async (at: string) => !lost.includes(at),
      unheard: async () => unheard,
      command,
      stuck: () => stuck,
      cutOff: () => cutOff,
    },
  });
  return { readiness, pair, events };
}

test("readiness: a pair in order has nothing to say", async () => {
  deepEqual(await problems({}), []);
});

test("readiness: a partner that was never there", async () => {
  deepEqual(await problems({ heartbeat: null }), ["chn5 has never been seen on these disks"]);
});

test("readiness: a partner of another version", async () => {
  deepEqual(await problems({ heartbeat: { version: "1.3.0" } }), ["chn5 runs version 1.3.0, this node 1.2.3"]);
});

test("readiness: clocks an hour apart and disks without a word of the partner are told, and stand in nobody's way", async () => {
  const wallMs = HEARTBEAT.wallMs - 3_600_000;
  const text = "the clocks of the two nodes are 60 minutes apart (file times will jump; nothing else depends on it)";
  deepEqual(await remarks({ heartbeat: { wallMs } }), [text]);
  // That node may have lost a path; this one has it, and could take over.
  deepEqual(await remarks({ unheard: ["/d/7", "/d/8"] }), [
    "chn5 says nothing on /d/7, /d/8: its configuration does not name them, or it has lost the path",
  ]);
  deepEqual(await remarks({}), []);
});

test("readiness: disks that this node does not find, or that are there by name alone", async () => {
  const here = await problems({ groups: [{ memberCount: 3 }] });
  deepEqual(here, ["this node can use 1 of the 3 disks of group g"]);
  const gone = await problems({ groups: [{ paths: [path.join(directory, "absent.img")] }] });
  deepEqual(gone, ["this node can use 0 of the 1 disks of group g"]);
  deepEqual(await problems({ lost: [disk] }), ["this node can use 0 of the 1 disks of group g"]);
});

test("readiness: of a group that it serves a node says what it lacks only when the partner has it", async () => {
  const groups = [{ role: "owned", paths: [disk, disk], memberCount: 3 }] as const;
  const lacking = { lacks: [{ group: "g", disks: 1 }] };
  deepEqual(await problems({ groups, heartbeat: lacking }), [], "it has failed for both: the group is degraded");
  deepEqual(await problems({ groups }), ["this node can use 2 of the 3 disks of group g, chn5 3"]);
});

test("readiness: two hosts need direct I/O, and a fence command that can be run", async () => {
  const heartbeat = { bootId: "another" };
  const cached =
    "chn5 runs on another host, and this node may have old blocks in its page cache: it needs direct-io: true";
  deepEqual(await problems({ heartbeat }), [cached]);
  deepEqual(await problems({ heartbeat, directIo: true }), []);
  const fenceCommand = path.join(directory, "fence");
  const refused = await problems({ heartbeat, directIo: true, config: { fenceCommand } });
  deepEqual(refused, [`the fence command ${fenceCommand} cannot be run`]);
  writeFileSync(fenceCommand, "#!/bin/sh\n");
  chmodSync(fenceCommand, 0o755);
  deepEqual(await problems({ heartbeat, directIo: true, config: { fenceCommand } }), []);
});

test("readiness: the partner's service address must be one that this machine can have", async () => {
  const heartbeat = { service: { host: "192.0.2.7", port: 2049 } };
  const text = "this machine does not have the service address 192.0.2.7 of chn5";
  deepEqual(await problems({ heartbeat }), [text]);
});

test("readiness: the address command must work, with its privileges, and what this machine cannot give up is told", async () => {
  const heartbeat = { service: { host: "192.0.2.7", port: 2049 } };
  const program = path.join(directory, "address");
  const missing = await problems({ heartbeat, command: new AddressCommand(program) });
  deepEqual(missing, [`the address command ${program} cannot be run`]);
  const command = (check: AddressCheck): ReadinessParts["command"] => ({
    ...{ trouble: async () => null, check: async () => check },
  });
  const why = "the address command failed to check 192.0.2.7: no privilege";
  deepEqual(await problems({ heartbeat, command: command({ kind: "failed", why }) }), [why]);
  // That is the partner, which serves there; and what cannot be found out here is no reason against a takeover.
  deepEqual(await problems({ heartbeat, command: command({ kind: "held", by: "02:00:00:00:00:05" }) }), []);
  deepEqual(await problems({ heartbeat, command: command({ kind: "unknown", why: "no arping" }) }), []);
  const stuck = ["this machine may have the service address 192.0.2.7"];
  deepEqual(await problems({ heartbeat, command: command({ kind: "alone" }), stuck }), stuck);
  deepEqual(await problems({ cutOff: ["this node reaches nobody"] }), ["this node reaches nobody"]);
});

test("readiness: what stands in the way is looked at again soon, and told when it is over", async () => {
  const hand = new HandClock();
  const events = new EventLog(hand, SILENT);
  let heartbeat: Heartbeat | null = null;
  const pair: ReadinessParts["pair"] = {
    ...{ name: "chn1", partnerName: "chn5", partnerIsAlive: false, self, trouble: null, lacks: [] },
    ...{ partner: () => ({ heartbeat, silentMs: 10, wallStartMs: null }), groups: () => [] },
  };
  const readiness = new Readiness({
    ...{ pair, config: SETTINGS, directIo: false, clock: hand, events, scratch: directory, unheard: async () => [] },
    ...{ sees: async () => true, command: null, stuck: () => [], cutOff: () => [] },
  });
  readiness.start();
  await hand.advance(3_000);
  // Folders are looked at for real, which takes its time.
  for (let i = 0; i < 100 && pair.trouble === null; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  await settle();
  deepEqual(pair.trouble, ["chn5 has never been seen on these disks"]);
  heartbeat = HEARTBEAT;
  await hand.advance(1_000);
  for (let i = 0; i < 100 && pair.trouble?.length !== 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
  deepEqual(pair.trouble, []);
  const said = events.last(10).map(({ kind }) => kind);
  deepEqual(said, ["takeover-not-ready", "takeover-ready"]);
  readiness.end();
});

test("readiness: a state directory that nothing can be written to", async () => {
  const [found = ""] = await problems({ scratch: path.join(disk, "scratch") });
  equal(found.startsWith("the state directory cannot be used: "), true, found);
});
