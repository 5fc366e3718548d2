/**
 * `npm run bench -- failover`: what a client sees of a takeover. A rig of two nodes, clients that create, write, rename, link and remove all the time and
 * repeat each call every 100 ms until it is answered; the node that serves is killed, stopped or asked, in turn. Every answer is judged: a call that
 * was lost or done twice shows as one that it cannot have.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { FailoverLoad } from "../test/support/failover-load.js";
import { Pair } from "../test/support/pair.js";
import { alive, Rig } from "../test/support/rig.js";
import { machine } from "./host.js";
import { buildLoadGenerator, runLoad } from "./load.js";

const HELP = `Usage: npm run bench -- failover [options]

  --rounds N      takeovers of each kind (100)
  --kinds A,B     killed, hung, planned (all)
  --lanes N       clients, each with one call at a time (4)
  --disks N       (5)
  --disk-size S   of each, sparse (1G)
  --files N       so many are made first (0)
  --json FILE     every gap, for programs
`;

const OPTIONS = {
  rounds: { type: "string", default: "100" },
  kinds: { type: "string", default: "killed,hung,planned" },
  lanes: { type: "string", default: "4" },
  disks: { type: "string", default: "5" },
  "disk-size": { type: "string", default: "1G" },
  files: { type: "string", default: "0" },
  json: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

/** So long the standby's processor time is looked at. */
const STANDBY_SECONDS = 20;
/** A process that has just started translates its code first. */
const WARM_UP_MS = 40_000;
/** Of the times in /proc/PID/stat (sysconf(_SC_CLK_TCK) on every Linux that Node runs on). */
const TICKS_PER_SECOND = 100;

type Kind = "killed" | "hung" | "planned";

/** What the median and the slowest in a hundred may be, in milliseconds. */
const WANTED: Readonly<Record<Kind, string>> = {
  killed: "p50 500, p99 1000",
  hung: "all 3000",
  planned: "all 300",
};

export async function failover(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const kinds = values.kinds.split(",") as Kind[];
  const unknown = kinds.find((kind) => WANTED[kind] === undefined);
  if (unknown !== undefined) {
    console.error(`bench: no such kind of takeover: ${unknown}`);
    return 2;
  }
  console.log(machine());
  const rig = await Rig.up({
    disks: Number(values.disks),
    diskSize: values["disk-size"],
    more: ["--nodes", "2", "--no-faults"],
  });
  try {
    const gaps = new Map<Kind, number[]>();
    const pair = new Pair(rig);
    const { host, nfsPort } = rig.description.service;
    await pair.whole();
    if (Number(values.files) > 0) await fill(rig, Number(values.files));
    const load = new FailoverLoad(host, nfsPort, Number(values.lanes));
    await sleep(WARM_UP_MS);
    const idle = await standbyShare(pair);
    await load.start();
    const loaded = await standbyShare(pair);
    for (const kind of kinds) gaps.set(kind, await rounds(kind, Number(values.rounds), rig, pair, load));
    await load.end();
    console.log(`\n${load.operations} calls, ${load.repeated} repeated, ${load.faults.length} wrong answers`);
    for (const fault of load.faults.slice(0, 20)) console.log(`  ${fault}`);
    for (const [kind, list] of gaps) console.log(line(kind, list));
    console.log(
      `the node that stands by: ${idle.toFixed(1)} % of a core idle (wanted: 3), ${loaded.toFixed(1)} % under load (wanted: 10)`,
    );
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(Object.fromEntries(gaps)));
    return load.faults.length === 0 ? 0 : 1;
  } finally {
    await rig.remove();
  }
}

async function fill(rig: Rig, files: number): Promise<void> {
  const load = { connections: 4, depth: 16, mib: 1, files, phases: ["create"] };
  const [made] = await runLoad(buildLoadGenerator(), rig.url(), load);
  console.log(`${made?.calls ?? 0} files made in ${Math.round(made?.seconds ?? 0)} s`);
}

/** Processor time of the node that serves nothing, in per cent of one core. */
async function standbyShare(pair: Pair): Promise<number> {
  const { nodes } = await pair.row();
  const pid = nodes.find(({ role }) => role === "standby")?.pid;
  if (pid === undefined || pid === null) throw new Error("no node stands by");
  const before = processorSeconds(pid);
  await sleep(STANDBY_SECONDS * 1000);
  return (100 * (processorSeconds(pid) - before)) / STANDBY_SECONDS;
}

/** proc(5): fields 14 and 15 of stat; the name before them may hold anything. */
function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function rounds(kind: Kind, count: number, rig: Rig, pair: Pair, load: FailoverLoad): Promise<number[]> {
  const gaps: number[] = [];
  for (let round = 0; round < count && load.faults.length === 0; round++) {
    await pair.whole();
    await load.progress(50);
    const pid = await pair.activePid();
    load.takeGapMs();
    if (kind === "killed") process.kill(pid, "SIGKILL");
    else if (kind === "hung") process.kill(pid, "SIGSTOP");
    else await rig.ok(["node", "takeover"]);
    await load.progress(20);
    gaps.push(load.takeGapMs());
    await load.checkLocks();
    while (kind !== "planned" && alive(pid)) await sleep(10);
    if (process.stderr.isTTY)
      process.stderr.write(`\r${kind} ${round + 1}/${count}: ${Math.round(gaps.at(-1) ?? 0)} ms   `);
  }
  return gaps;
}

function line(kind: Kind, gaps: readonly number[]): string {
  const sorted = [...gaps].sort((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const figures = `p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`;
  return `${kind.padEnd(8)} ${String(gaps.length).padStart(4)} takeovers: ${figures}   (wanted: ${WANTED[kind]})`;
}
