import type { Random } from "../../../src/lib/prng.js";
import type { Node, PairWorld } from "./pair-world.js";
import type { NodeFaults } from "./shared-disk.js";

/** One thing that happens. It begins at once; what ends it comes by itself. */
type Action = (world: PairWorld, random: Random) => void;

const ACTIONS = {
  crashOwner: (world) => crash(world, world.owner),
  crashStandby: (world) => crash(world, world.standby),
  pauseOwner: (world, random) => pause(world, world.owner, random),
  pauseStandby: (world, random) => pause(world, world.standby, random),
  takeover: (world) => {
    const life = world.standby?.life;
    if (life?.gate.running === true) void life.agent.takeover("g").catch(() => {});
  },
  giveback: (world) => {
    const life = world.owner?.life;
    if (life?.gate.running === true) void life.agent.giveback("g").catch(() => {});
  },
  stopOwner: (world) => stop(world, world.owner),
  powerOff: (world, random) => world.powerOff(world.hosts[random.below(world.hosts.length)]!),
  powerOffOwner: (world) => {
    const { owner } = world;
    if (owner !== null) world.powerOff(owner.host);
  },
  loseDisk: (world, random) => loseDisk(world, random),
  putBack: (world, random) => putBack(world, random),
  loseMessages: (world, random) => reserved(world, random, "fail"),
  delayMessages: (world, random) => reserved(world, random, 100 + random.below(3000)),
  slowDisk: (world, random) => slowDisk(world, random),
  slowDisks: (world, random) => slowDisks(world, random),
  stepClock: (world, random) => {
    const host = world.hosts[random.below(world.hosts.length)]!;
    host.way.wallSkewMs += (random.below(2000) - 1000) * 10_000;
  },
} satisfies Record<string, Action>;

export type ActionName = keyof typeof ACTIONS;

/** In the order of a lottery: what is named more often happens more often. */
const LOTTERY: readonly ActionName[] = [
  ...["crashOwner", "crashOwner", "crashStandby", "pauseOwner", "pauseOwner", "pauseStandby"],
  ...["takeover", "takeover", "giveback", "stopOwner", "powerOff", "powerOffOwner", "loseDisk"],
  ...["loseMessages", "loseMessages", "delayMessages", "delayMessages", "stepClock"],
  ...["slowDisk", "slowDisk", "slowDisks", "putBack", "putBack", "putBack"],
] as readonly ActionName[] as ActionName[];

export function drawAction(random: Random): ActionName {
  return LOTTERY[random.below(LOTTERY.length)]!;
}

export function act(name: ActionName, world: PairWorld, random: Random): void {
  (ACTIONS[name] as Action)(world, random);
}

function crash(world: PairWorld, node: Node | null): void {
  if (node?.life != null) world.end(node.life);
}

/** Short ones that nobody notices, and long ones. */
function pause(world: PairWorld, node: Node | null, random: Random): void {
  const life = node?.life;
  if (life == null) return;
  const ms = random.below(3) === 0 ? random.below(500) : random.below(12_000);
  world.tell(`${life.node} is paused for ${ms} ms`);
  life.gate.pause();
  world.simulation.after(ms, () => {
    if (life.gate.paused) world.tell(`${life.node} goes on`);
    life.gate.goOn();
  });
}

function stop(world: PairWorld, node: Node | null): void {
  const life = node?.life;
  if (life?.gate.running !== true) return;
  const end = (): void => life.gate.run(() => world.end(life));
  life.agent.stop().then(end, end);
}

/** For one node, and only while nothing else is wrong with any disk: the group bears one. */
function loseDisk(world: PairWorld, random: Random): void {
  if (!world.whole || world.isSlow) return;
  const node = world.nodes[random.below(2)]!;
  const faults = world.disks[random.below(world.disks.length)]!.faultsOf(node.name);
  faults.blocked = true;
  world.tell(`${node.name} does not see a disk`);
  world.simulation.after(500 + random.below(8000), () => {
    faults.blocked = false;
  });
}

/** The owner's process ends, perhaps the other's too, and one disk is then as it was at an earlier moment, heartbeats and leases on it included. */
function putBack(world: PairWorld, random: Random): void {
  const { owner, standby } = world;
  if (!world.whole || world.isSlow || owner === null) return;
  const disk = world.disks[random.below(world.disks.length)]!;
  const platter = world.earlier(disk, random);
  if (platter === null) return;
  crash(world, owner);
  if (random.below(2) === 0) crash(world, standby);
  disk.putBack(platter);
  world.tell(`${disk.path} is put back as it was earlier`);
}

/** A thousand times slower, for one node or both, as long as a person takes to notice. Redundancy bears one that is left out for it. */
function slowDisk(world: PairWorld, random: Random): void {
  if (!world.whole || world.isSlow) return;
  const both = random.below(2) === 0;
  const disk = world.disks[random.below(world.disks.length)]!;
  const nodes = both ? world.nodes : [world.nodes[random.below(2)]!];
  makeSlow(
    world,
    nodes.map(({ name }) => disk.faultsOf(name)),
    1000,
    3000 + random.below(20_000),
  );
  world.tell(`a disk is slow for ${nodes.map(({ name }) => name).join(" and ")}`);
}

/** All disks alike: load. */
function slowDisks(world: PairWorld, random: Random): void {
  if (world.isSlow) return;
  const faults = world.disks.flatMap((disk) => world.nodes.map(({ name }) => disk.faultsOf(name)));
  makeSlow(world, faults, 20 + random.below(30), 2000 + random.below(10_000));
  world.tell("all disks are slow");
}

function makeSlow(world: PairWorld, faults: readonly NodeFaults[], slowness: number, ms: number): void {
  world.isSlow = true;
  for (const one of faults) one.slowness = slowness;
  world.simulation.after(ms, () => {
    for (const one of faults) one.slowness = 1;
    world.isSlow = false;
  });
}

function reserved(world: PairWorld, random: Random, how: "fail" | number): void {
  const node = world.nodes[random.below(2)]!;
  const all = random.below(2) === 0;
  world.tell(
    `${node.name}: messages ${how === "fail" ? "are lost" : "are late"} on ${all ? "all disks" : "some disks"}`,
  );
  for (const disk of world.disks) {
    if (!all && random.below(2) === 0) continue;
    const faults = disk.faultsOf(node.name);
    faults.reserved = how;
    world.simulation.after(200 + random.below(9000), () => {
      faults.reserved = null;
    });
  }
}
