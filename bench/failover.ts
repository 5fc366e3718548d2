/**
 * `npm run bench -- failover`: what a client sees of a takeover. A rig of two nodes, clients that create, write, rename, link and remove all the time and
 * repeat each call every 100 ms until it is answered; the node that serves is killed, stopped or asked, in turn. Every answer is judged: a call that
 * was lost or done twice shows as one that it cannot have.
 */
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { FailoverLoad } from "../test/support/failover-load.js";
import { Pair } from "../test/support/pair.js";
import { alive, Rig } from "../test/support/rig.js";
import { machine } from "./host.js";

const HELP = `Usage: npm run bench -- failover [options]

  --rounds N      takeovers of each kind (100)
  --kinds A,B     killed, hung, planned (all)
  --lanes N       clients, each with one call at a time (4)
  --disks N       (5)
  --disk-size S   of each, sparse (1G)
  --json FILE     every gap, for programs
`;

const OPTIONS = {
  rounds: { type: "string", default: "100" },
  kinds: { type: "string", default: "killed,hung,planned" },
  lanes: { type: "string", default: "4" },
  disks: { type: "string", default: "5" },
  "disk-size": { type: "string", default: "1G" },
  json: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

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
    const load = new FailoverLoad(host, nfsPort, Number(values.lanes));
    await load.start();
    for (const kind of kinds) gaps.set(kind, await rounds(kind, Number(values.rounds), rig, pair, load));
    await load.end();
    console.log(`\n${load.operations} calls, ${load.repeated} repeated, ${load.faults.length} wrong answers`);
    for (const fault of load.faults.slice(0, 20)) console.log(`  ${fault}`);
    for (const [kind, list] of gaps) console.log(line(kind, list));
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(Object.fromEntries(gaps)));
    return load.faults.length === 0 ? 0 : 1;
  } finally {
    await rig.remove();
  }
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
