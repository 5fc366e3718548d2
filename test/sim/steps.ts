import { isStorageError } from "../../src/lib/errors.js";
import type { Random } from "../../src/lib/prng.js";
import { BLOCK_BYTES, MIB } from "../../src/lib/units.js";
import type { TaskKind } from "../../src/raid/contract.js";
import { LABEL_END_BYTES } from "../../src/raid/layout.js";
import type { Drive, DriveRequest } from "./drive.js";
import { injectMetadataRot, ROWS_START, rotBlock, writtenBlocks } from "./rot.js";
import { BeyondFaultModel, type World } from "./world.js";

/** A thousandth of some ten years. */
const CLOCK_STEP_MS = 3.15e8;
/** Long enough for all that is done when its time has come: dirty data is written back after 5 s, and some of it after the next look. */
const AGE_MS = 15_000;
/** An answer that takes longer is late, and from then on its disk has no more than its share of the threads. */
const LATE_MS = 100;
const READERS = 200;
const THREAD_WAIT_MS_MAX = 1000;
/** A disk is left out after it was slow for 5 s. What it was asked for at first may take ten times as long. */
const LEFT_OUT_MS = 60_000;

/** One thing that happens. It leaves the world with a service that runs. */
export type Step = (world: World, random: Random) => Promise<void>;

function pick<T>(items: readonly T[], random: Random): T {
  return items[random.below(items.length)]!;
}

/** A member that may have a fault now, or null. @param silent as FaultBudget.spend */
function victim(world: World, random: Random, silent: boolean): Drive | null {
  const members = world.machine.group.describe().disks;
  const drive = world.machine.drives[pick(members, random).number - 1]!;
  if (world.machine.unplugged.has(drive) || drive.failure !== null) return null;
  const out = members.find(({ state }) => state !== "online");
  if (out !== undefined && world.budget.victim === null) world.budget.spend(out.number - 1, false);
  return world.budget.spend(drive.index, silent) ? drive : null;
}

async function work(world: World, random: Random): Promise<void> {
  await world.simulation.until(world.burst(random), "requests");
}

/** Idle stripes go to their place, bits are cleared, old data is written back. */
async function passTime(world: World, random: Random): Promise<void> {
  await world.simulation.until(world.simulation.sleep(random.below(12_000)), "time");
}

/** The power fails at some write or flush of a disk, perhaps again while the group recovers; one disk may be lost or damaged meanwhile. */
async function crash(world: World, random: Random): Promise<void> {
  const { machine } = world;
  const cut = await machine.runUntilCut(world.burst(random), 1 + random.below(40), "requests");
  if (!cut) machine.cut();
  world.crashed();
  await betweenLives(world, random);
  for (let again = random.below(4) === 0; again; again = random.below(2) === 0) await crashRecovery(world, random);
  await world.recover();
}

async function crashRecovery(world: World, random: Random): Promise<void> {
  const { machine } = world;
  const recovery = machine.assemble();
  const cut = await machine.runUntilCut(recovery, 1 + random.below(30), "assembling");
  if (!cut) machine.cut();
}

/** What may happen to disks while nothing runs. */
async function betweenLives(world: World, random: Random): Promise<void> {
  const { machine } = world;
  const dice = random.below(8);
  if (dice > 2) return;
  const drive = victim(world, random, dice > 0);
  if (drive === null) return;
  if (dice === 0) machine.unplugged.add(drive);
  else injectMetadataRot(drive, random);
}

async function restart(world: World, random: Random): Promise<void> {
  await world.stop();
  await betweenLives(world, random);
  await world.recover();
}

/** A disk breaks or is pulled out under load. */
async function loseDisk(world: World, random: Random): Promise<void> {
  const drive = victim(world, random, false);
  if (drive === null) return;
  const { machine } = world;
  let left = 1 + random.below(20);
  const before = drive.beforeEffect;
  drive.beforeEffect = (operation, which) => {
    if (--left === 0) drive.failure = random.below(2) === 0 ? "EIO" : "ENXIO";
    before(operation, which);
  };
  await work(world, random);
  await work(world, random);
  drive.beforeEffect = before;
  drive.failure ??= "ENXIO";
  await work(world, random);
  // From the next life on the machine does without it.
  if (random.below(2) === 0) machine.unplugged.add(drive);
}

/** A disk that was lost or away is found at the next start, as good as new, with what it held. */
async function plugIn(world: World, _random: Random): Promise<void> {
  const { machine } = world;
  await world.stop();
  for (const drive of machine.drives) {
    drive.failure = null;
    drive.badBlocks.clear();
    machine.unplugged.delete(drive);
  }
  await world.recover();
}

/** Some blocks of a member cannot be read. */
async function badBlocks(world: World, random: Random): Promise<void> {
  const drive = victim(world, random, true);
  if (drive === null) return;
  const written = drive.media.platter.blocks();
  for (let i = 0; i < 3 && written.length > 0; i++) drive.badBlocks.add(pick(written, random));
  await work(world, random);
  await work(world, random);
}

/** Bit rot where a file system has checksums: everything is read, found and healed. */
async function rot(world: World, random: Random): Promise<void> {
  if (!world.proves) return;
  const drive = victim(world, random, true);
  if (drive === null) return;
  await resynced(world);
  await world.stop();
  // Files' data lies in the first rows, all else behind it, written far more often.
  const end = random.below(2) === 0 ? ROWS_START + 3 * MIB : drive.sizeBytes - LABEL_END_BYTES;
  const written = writtenBlocks(drive, ROWS_START, end);
  for (let i = random.below(60); i >= 0 && written.length > 0; i--) rotBlock(drive, pick(written, random), random);
  await world.recover();
}

/** A disk acknowledges writes of rows that it does not do, or does elsewhere. Everything is read afterwards. */
async function lie(world: World, random: Random): Promise<void> {
  if (!world.proves) return;
  const drive = victim(world, random, true);
  if (drive === null) return;
  await resynced(world);
  const [from, to] = [ROWS_START + MIB, drive.sizeBytes - LABEL_END_BYTES - MIB];
  for (let i = random.below(3); i >= 0; i--) {
    const elsewhere = (random.below(64) - 32) * BLOCK_BYTES;
    drive.lies.push({ from, to, shiftBytes: random.below(2) === 0 ? null : elsewhere });
  }
  await untilPolluted(world, drive, async () => {
    await work(world, random);
    await work(world, random);
    await world.stop();
  });
  await world.recover();
}

/**
 * A stripe that holds a lie must be read before it is written again: a partial write computes parity from what it finds, and then the
 * lie stands in the parity too. Where that has happened the run ends.
 */
async function untilPolluted(world: World, liar: Drive, action: () => Promise<void>): Promise<void> {
  const { drives } = world.machine;
  const lies: Array<{ from: number; to: number }> = [];
  let polluted = false;
  const asked = (_: Drive, { position, byteCount }: DriveRequest): void => {
    polluted ||= lies.some(({ from, to }) => position < to && from < position + byteCount);
  };
  liar.onLie = (from, to) => void lies.push({ from, to });
  for (const drive of drives) drive.watcher = { asked, ended: () => {} };
  const failure = await action().then(
    () => null,
    (error: unknown) => error,
  );
  for (const drive of drives) drive.watcher = null;
  liar.lies = [];
  if (polluted) throw new BeyondFaultModel("a stripe with a lie was written again");
  if (failure !== null) throw failure;
}

/**
 * A member does not answer some reads, or none for some seconds, and is well again: a cable, a reset of the bus. Perhaps another one is being rebuilt, or
 * has a bad block; nothing may be lost by it, and nothing made up (I-2a).
 */
async function silence(world: World, random: Random): Promise<void> {
  const { machine, simulation, budget } = world;
  const members = machine.group.describe().disks;
  const away = members.find(({ state }) => state !== "online");
  // A file system would have to bear that it cannot be read; here it is to be seen what becomes of the blocks.
  if (world.proves && (away !== undefined || budget.victim !== null)) return;
  const drives = members.map(({ number }) => machine.drives[number - 1]!).filter((one) => one.index !== budget.victim);
  const drive = pick(drives, random);
  if (machine.unplugged.has(drive) || drive.failure !== null || members[0]?.state === undefined) return;
  // With all members there the group may find that this one gives too many errors.
  const suspected = away === undefined && budget.victim === null;
  if (suspected) budget.spend(drive.index, false);
  if (away !== undefined && away.state !== "rebuilding") await replace(world, machine.drives[away.number - 1]!);
  const from = ROWS_START + random.below(96) * 16384;
  const reads = random.below(2) === 0 ? 1 + random.below(12) : Number.POSITIVE_INFINITY;
  drive.unanswered = { from, to: from + (1 + random.below(64)) * BLOCK_BYTES, reads };
  const well = simulation.sleep(100 + random.below(6000)).then(() => (drive.unanswered = null));
  world.patient = true;
  for (let i = 0; i < 3; i++) await work(world, random);
  if (random.below(3) === 0) {
    // It answers again after a power cut.
    if (!(await machine.runUntilCut(world.burst(random), 1 + random.below(24), "requests"))) machine.cut();
    world.crashed();
    drive.unanswered = null;
    world.patient = false;
    await world.recover();
  }
  await simulation.until(well, "a disk to answer again");
  leap(world, random);
  await untilAllRead(world);
  world.patient = false;
  await taskEnd(world, "rebuild");
  const out = machine.group.describe().disks.find(({ state }) => state !== "online");
  // It may be another one, for how slow it was before.
  if (suspected && out !== undefined) budget.returned();
  if (out !== undefined) budget.spend(out.number - 1, false);
  else if (away !== undefined) budget.restore();
}

/**
 * A member in use is replaced, and the power fails on the way: the old disk is a source still, where nothing was written since it left. With another one
 * silent that shows, and that nothing else is read from it.
 */
async function replaceInUse(world: World, random: Random): Promise<void> {
  const { machine, simulation, budget } = world;
  if (budget.victim !== null || !isWhole(world)) return;
  // When nothing is marked, and nothing is written, it has everything.
  const still = !world.proves && random.below(2) === 0;
  if (still) await simulation.until(simulation.sleep(40_000), "marks to be cleared");
  const members = machine.memberDrives();
  const index = pick(members, random);
  const [old, other] = [
    index,
    pick(
      members.filter((one) => one !== index),
      random,
    ),
  ].map((i) => machine.drives[i]!);
  const disk = await simulation.until(machine.label(machine.addDrive()), "a label");
  const replacing = machine.group.replaceDisk(index + 1, disk);
  if (still)
    await machine.runUntilCut(
      replacing.then(() => taskEnd(world, "rebuild")),
      1 + random.below(40),
      "replacing",
    );
  else {
    await simulation.until(replacing, "replacing a disk");
    await workHeldUp(world, random, [old!, other!]);
  }
  machine.cut();
  world.crashed();
  for (const drive of [old!, other!]) drive.unanswered = null;
  await world.checkSilent(other!.index, still);
  for (let again = random.below(4) === 0; again; again = random.below(2) === 0) await crashRecovery(world, random);
  await world.recover();
  if (!machine.memberDrives().includes(index)) await replaced(world, old!);
}

/** The new member is rebuilt; perhaps it did not know yet that it was taken, and another one comes. */
async function replaced(world: World, old: Drive): Promise<void> {
  const { machine } = world;
  await taskEnd(world, "rebuild");
  machine.unplugged.add(old);
  const lacking = machine.group.describe().disks.find(({ state }) => state === "missing");
  if (lacking === undefined) return;
  await replace(world, machine.drives[lacking.number - 1]!);
  await taskEnd(world, "rebuild");
}

/** Requests, while the rebuild waits for a place that two disks do not give out. The power fails meanwhile. */
async function workHeldUp(world: World, random: Random, drives: readonly Drive[]): Promise<void> {
  const { machine, simulation } = world;
  const from = ROWS_START + random.below(96) * 16384;
  if (!world.proves) {
    for (const drive of drives)
      drive.unanswered = { from, to: from + 4 * BLOCK_BYTES, reads: Number.POSITIVE_INFINITY };
  }
  world.patient = true;
  for (let i = random.below(4); i > 0; i--) await work(world, random);
  await simulation.until(simulation.sleep(random.below(30_000)), "time");
  await machine.runUntilCut(world.burst(random), 1 + random.below(24), "requests");
  world.patient = false;
}

/** Whatever could not be read can be had again, by itself. */
async function untilAllRead({ machine, simulation }: World): Promise<void> {
  for (let waits = 0; waits < 200; waits++) {
    const { lostBlocks, unreadable } = machine.group.describe();
    if (lostBlocks > 0) throw new Error(`${lostBlocks} blocks are lost, and nobody gave them up`);
    if (unreadable === 0) return;
    await simulation.until(simulation.sleep(1000), "what could not be read");
  }
  throw new Error("what could not be read is waited for, though it can be read again");
}

/** A disk is slow, perhaps so slow and for so long that the group does without it, and has it back when it is well. */
async function slowDisk(world: World, random: Random): Promise<void> {
  const wasWhole = isWhole(world) && world.budget.victim === null;
  const drive = victim(world, random, false);
  if (drive === null) return;
  drive.slowness = random.below(2) === 0 ? 20 + random.below(400) : 1000;
  if (drive.slowness === 1000) await sharedThreads(world, drive, random);
  const bursts = 2 + random.below(6);
  for (let i = 0; i < bursts; i++) await work(world, random);
  if (wasWhole && drive.slowness === 1000) await leftOut(world, random);
  drive.slowness = 1;
  // What it was may have it left out for some seconds more, well as it is: until that is over no other disk has a fault.
  await world.simulation.until(world.simulation.sleep(10_000 + random.below(10_000)), "time");
  for (let waits = 0; waits < 30 && !isWhole(world); waits++) {
    await world.simulation.until(world.simulation.sleep(1000), "time");
    await work(world, random);
    await taskEnd(world, "rebuild");
  }
  if (isWhole(world)) world.budget.returned();
}

/** Once it is known to be slow, requests to other disks find a thread, however many wait for it. */
async function sharedThreads(world: World, slow: Drive, random: Random): Promise<void> {
  const { machine, simulation } = world;
  for (let tries = 0; slow.tookMs < LATE_MS; tries++) {
    if (tries === 8) return;
    await simulation.until(world.readers(4, random), "reads");
  }
  for (const drive of machine.drives) drive.waitedMsMax = 0;
  await simulation.until(world.readers(READERS, random), "reads");
  const waitedMs = Math.max(...machine.drives.map((drive) => (drive === slow ? 0 : drive.waitedMsMax)));
  if (waitedMs > THREAD_WAIT_MS_MAX)
    throw new Error(`a request to a disk that is well waits ${waitedMs.toFixed(0)} ms for a thread`);
}

/** Nobody waits long for one disk: under load it is left out, since the others, which answer at once, have everything. */
async function leftOut(world: World, random: Random): Promise<void> {
  const { simulation } = world;
  for (const endMs = simulation.nowMs + LEFT_OUT_MS; isComplete(world); ) {
    if (simulation.nowMs > endMs) throw new Error("everything waits for one disk that is a thousand times slower");
    await work(world, random);
    await simulation.until(simulation.sleep(100), "time");
  }
}

/** Somebody sets the wall clock, by up to ten years, while everything goes on. Nothing may depend on it: whatever waits for its time waits no longer for that. */
async function setClock(world: World, random: Random): Promise<void> {
  const { simulation } = world;
  const working = world.burst(random);
  leap(world, random);
  await simulation.until(working, "requests");
  await simulation.until(simulation.sleep(AGE_MS), "time");
  world.checkAge();
}

function leap({ simulation }: World, random: Random): void {
  simulation.wallSetMs += (random.below(2000) - 1000) * CLOCK_STEP_MS;
}

/** All disks are slow: that is load, and whoever is left out for it is missed when another one is lost. */
async function slowDisks(world: World, random: Random): Promise<void> {
  const { drives } = world.machine;
  const wasComplete = isComplete(world);
  for (const drive of drives) drive.slowness = 100 + random.below(20);
  await work(world, random);
  await work(world, random);
  for (const drive of drives) drive.slowness = 1;
  if (wasComplete && !isComplete(world) && world.budget.victim === null)
    throw new Error("a member was left out for load");
}

async function taskEnd(world: World, kind: TaskKind): Promise<void> {
  const { machine, simulation } = world;
  for (;;) {
    const task = machine.group.describe().tasks.find((one) => one.kind === kind);
    if (task === undefined || (task.state !== "running" && task.state !== "paused")) return;
    await simulation.until(simulation.sleep(50), `a ${kind}`);
  }
}

/** Where a crash has left copies apart neither is more right than the other: what rots there before they agree may win. */
async function resynced(world: World): Promise<void> {
  await taskEnd(world, "resync");
}

/** Redundancy is whole again when no member is away or being rebuilt, and none is about to be left out. */
function isWhole(world: World): boolean {
  return isComplete(world) && world.machine.group.describe().disks.every(({ slow }) => !slow);
}

/** No member is away or being rebuilt. */
function isComplete(world: World): boolean {
  return world.machine.group.describe().disks.every(({ state }) => state === "online");
}

/** A member that is not online is returned, or replaced by a new disk, and rebuilt under load. */
async function rebuild(world: World, random: Random): Promise<void> {
  const { machine } = world;
  const away = machine.group.describe().disks.find(({ state }) => state !== "online");
  if (away === undefined) return;
  const drive = machine.drives[away.number - 1]!;
  // One that a crash has interrupted goes on by itself.
  const begun = away.state === "rebuilding";
  const replaced = !begun && random.below(2) === 0;
  if (!begun) await (replaced ? replace(world, drive) : giveBack(world, drive));
  await work(world, random);
  await taskEnd(world, "rebuild");
  if (!isWhole(world)) return;
  if (replaced) world.budget.restore();
  else world.budget.returned();
}

async function replace({ machine, simulation }: World, drive: Drive): Promise<void> {
  machine.unplugged.add(drive);
  const disk = await simulation.until(machine.label(machine.addDrive()), "a label");
  await simulation.until(machine.group.replaceDisk(drive.index + 1, disk), "replacing a disk");
}

async function giveBack({ machine, simulation }: World, drive: Drive): Promise<void> {
  drive.failure = null;
  machine.unplugged.delete(drive);
  // One that cannot even say who it is stays away.
  const disk = await simulation.until(machine.labelled(drive).catch(unlessUnreadable), "a label");
  if (disk !== null) await simulation.until(machine.group.returnDisk(disk, true), "returning a disk");
}

function unlessUnreadable(error: unknown): null {
  if (!isStorageError(error, "EIO")) throw error;
  return null;
}

/** Stopped in one way or another, and nothing has been done to the disks yet. */
async function down(world: World, random: Random): Promise<void> {
  if (random.below(2) === 0) return world.stop();
  const cut = await world.machine.runUntilCut(world.burst(random), 1 + random.below(40), "requests");
  if (!cut) world.machine.cut();
  world.crashed();
}

/** A disk is back as it was at an earlier moment, and is as good as any by itself; perhaps it is taken out again. */
async function putBack(world: World, random: Random): Promise<void> {
  const drive = victim(world, random, false);
  if (drive === null) return;
  const { machine } = world;
  await down(world, random);
  const platter = machine.earlier(drive, random);
  if (platter !== null) drive.media.replace(platter);
  for (let again = random.below(4) === 0; again; again = random.below(2) === 0) await crashRecovery(world, random);
  await world.recover();
  if (random.below(3) === 0) {
    machine.unplugged.add(drive);
    await down(world, random);
    await world.recover();
    machine.unplugged.delete(drive);
  }
  // It missed nothing.
  if (isWhole(world)) world.budget.returned();
  else if (random.below(2) === 0) await rebuild(world, random);
}

/** Two disks are: that is refused, without a byte written, unless they missed nothing. */
async function putBackTwo(world: World, random: Random): Promise<void> {
  const { machine, budget, simulation } = world;
  const members = machine.memberDrives();
  if (budget.victim !== null || !isWhole(world) || members.length < 3) return;
  await down(world, random);
  const two = members
    .sort(() => random.below(3) - 1)
    .slice(0, 2)
    .map((index) => machine.drives[index]!);
  const now = two.map((drive) => drive.media.freeze());
  for (const drive of two) drive.media.replace(machine.earlier(drive, random) ?? drive.media.platter);
  const asked = machine.drives.map(({ media }) => media.number);
  const refused = await simulation.until(machine.assemble(), "assembling").then(() => false, unlessRefused);
  if (refused) {
    if (machine.drives.some(({ media }, i) => media.number !== asked[i]))
      throw new Error("an assembly that was refused has written to a disk");
    for (const [i, drive] of two.entries()) drive.media.replace(now[i]!);
  } else {
    const stale = machine.group.describe().disks.find(({ state }) => state !== "online");
    if (stale !== undefined) budget.spend(stale.number - 1, false);
    await simulation.until(machine.close(), "closing the group");
  }
  await world.recover();
}

function unlessRefused(error: unknown): true {
  if (!isStorageError(error, "EIO") && !isStorageError(error, "EEXIST")) throw error;
  return true;
}

/** A person takes a member out of use. */
async function failDisk(world: World, random: Random): Promise<void> {
  const drive = victim(world, random, false);
  if (drive === null) return;
  await world.simulation.until(world.machine.group.failDisk(drive.index + 1), "failing a disk").catch(unlessBusy);
  await work(world, random);
}

/** The group refuses what would lose data. */
function unlessBusy(error: unknown): void {
  if (!isStorageError(error, "EBUSY") && !isStorageError(error, "ENOENT") && !isStorageError(error, "EINVAL"))
    throw error;
}

async function scrub(world: World, random: Random): Promise<void> {
  const { machine, simulation } = world;
  const options = { heal: true, inspectors: new Map() };
  await simulation.until(machine.group.scrub(options), "beginning a scrub").catch(unlessBusy);
  await work(world, random);
  if (random.below(2) === 0) await pauseScrub(world, random);
  await taskEnd(world, "scrub");
  if (isWhole(world)) world.budget.restore();
}

async function pauseScrub(world: World, random: Random): Promise<void> {
  const { machine, simulation } = world;
  await simulation.until(machine.group.pauseTask("scrub"), "pausing").catch(unlessBusy);
  await work(world, random);
  await simulation.until(machine.group.resumeTask("scrub"), "resuming").catch(unlessBusy);
}

async function grow(world: World, random: Random): Promise<void> {
  const { machine, simulation } = world;
  if (world.budget.victim !== null || machine.group.describe().disks.length >= 6) return;
  const disk = await simulation.until(machine.label(machine.addDrive()), "a label");
  await simulation.until(machine.group.growDisk(disk), "growing").catch(unlessBusy);
  await work(world, random);
  await taskEnd(world, "grow");
}

/** An LU gets another size, perhaps while the power fails. */
async function resize(world: World, random: Random): Promise<void> {
  const { machine, simulation } = world;
  const resizing = world.resize(random);
  if (random.below(2) === 0) await simulation.until(resizing, "resizing");
  else if (await machine.runUntilCut(resizing, 1 + random.below(24), "resizing")) {
    world.crashed();
    await world.recover();
  }
  await work(world, random);
}

async function fullScratch(world: World, random: Random): Promise<void> {
  await world.fullScratch(random);
}

async function fillUp(world: World, random: Random): Promise<void> {
  await world.fillUp(random);
}

async function makeRoom(world: World, random: Random): Promise<void> {
  await world.makeRoom(random);
}

const ALL_STEPS = {
  ...{ work, passTime, crash, restart, loseDisk, plugIn, badBlocks, slowDisk, slowDisks, setClock, silence, rot, lie },
  ...{ rebuild, failDisk, scrub, grow, resize, putBack, putBackTwo, fullScratch, fillUp, makeRoom, replaceInUse },
} satisfies Record<string, Step>;

export type StepName = keyof typeof ALL_STEPS;

/** What a schedule is made of, each as often as it stands here. A step whose name is missing never happens. */
export const STEPS: readonly StepName[] = [
  ...(["work", "work", "work", "work", "work", "work"] as const),
  ...(["crash", "crash", "crash", "passTime", "passTime", "restart"] as const),
  ...([
    "loseDisk",
    "plugIn",
    "badBlocks",
    "slowDisk",
    "slowDisk",
    "slowDisks",
    "setClock",
    "silence",
    "silence",
    "rot",
    "rot",
    "lie",
  ] as const),
  ...(["rebuild", "rebuild", "failDisk", "scrub", "grow", "resize", "resize"] as const),
  ...(["putBack", "putBack", "putBackTwo", "fullScratch", "fillUp", "makeRoom"] as const),
  ...(["replaceInUse", "replaceInUse"] as const),
];

export function stepNamed(name: StepName): Step {
  return ALL_STEPS[name];
}
