import { realpathSync } from "node:fs";
import path from "node:path";
import { stringify } from "yaml";
import { z } from "zod";
import { expandPattern } from "../config/glob.js";
import { parseConfig } from "../config/load.js";
import { addressText, pathText } from "../config/schema.js";
import { ConfigError, mistakeAt, parseWritten, readWritten } from "../config/written.js";
import { canonicalNetwork } from "../lib/network.js";

/** A node as the plan wants it. Paths are absolute, and paths on the node. */
export interface PlannedNode {
  readonly name: string;
  /** Service address: where clients find it. */
  readonly address: string;
  readonly port: number;
  /** Folder that holds the releases and the link `current`. */
  readonly install: string;
  readonly state: string;
  readonly socket: string;
  readonly config: string;
  /** Paths and patterns of the disks that it sees. */
  readonly disks: readonly string[];
  /** It is the terminal's own machine: the terminal runs the installer. */
  readonly local: boolean;
  /** Shell command that starts the daemon; null: started detached by the installer. */
  readonly start: string | null;
}

export interface PlannedExport {
  readonly client: string;
  readonly squash: "none" | "root" | "all";
  readonly privilegedPort: boolean;
}

export interface PlannedData {
  readonly disks: readonly string[];
  readonly group: string;
  readonly fileSystem: string;
  readonly level: 1 | 5;
  readonly rootMode: number;
  readonly exports: readonly PlannedExport[];
}

/** Everything that `cluster init` is to bring about. */
export interface ClusterPlan {
  readonly file: string;
  /** Where the nodes reach the terminal while they are installed. */
  readonly management: { readonly host: string; readonly port: number };
  /** Two; the first is installed first and serves. */
  readonly nodes: readonly PlannedNode[];
  readonly shared: readonly string[];
  readonly backup: readonly string[];
  readonly data: PlannedData | null;
  /** `pair:` of both configurations, but for the partner. */
  readonly pair: Readonly<Record<string, string | number>>;
  readonly directIo: boolean;
}

const text = (what: string) => z.string({ error: `wants ${what}` }).min(1, `wants ${what}`);
const flag = z.boolean({ error: "wants true or false" });
const wantsPort = "wants a port number, 1 to 65535";
const port = z.int({ error: wantsPort }).min(1, wantsPort).max(65535, wantsPort);
const wantsName = "wants a name of letters, digits, - and _";
const name = z.string({ error: wantsName }).regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, wantsName);
const diskList = (least: number, most: number) => {
  const wants = `wants ${least} to ${most} paths of disks`;
  return z
    .array(
      pathText("the absolute path of a disk").refine((value) => value.startsWith("/"), "wants an absolute path"),
      { error: wants },
    )
    .min(least, wants)
    .max(most, wants);
};
const wantsKeys = {
  error: (issue: { readonly code?: string | undefined }) =>
    issue.code === "invalid_type" ? "wants keys and values" : undefined,
};
const absolute = (what: string) =>
  pathText(what).refine((value) => value.startsWith("/"), `wants ${what} that begins with /`);

const node = z.strictObject(
  {
    name: z.string({ error: "wants a node name, chn1 to chn8" }).regex(/^chn[1-8]$/, "wants a node name, chn1 to chn8"),
    address: addressText("the node's service address, such as 192.0.2.1"),
    port: port.default(2049),
    install: absolute("a folder").default("/opt/stripeward"),
    state: absolute("a folder").default("/var/lib/stripeward"),
    socket: absolute("a path").default("/run/stripeward/stripeward.sock"),
    config: absolute("a path").optional(),
    disks: z.array(absolute("a path or pattern"), { error: "wants a list of paths and patterns" }).min(1),
    local: flag.default(false),
    start: text("a shell command").optional(),
  },
  wantsKeys,
);

const exported = z.strictObject(
  {
    client: text("an address or a network, such as 192.0.2.0/24").refine(
      (value) => canonicalNetwork(value) !== null,
      "wants an address or a network, such as 192.0.2.0/24",
    ),
    squash: z.enum(["none", "root", "all"], { error: "wants none, root or all" }).default("root"),
    "privileged-port": flag.default(true),
  },
  wantsKeys,
);

const data = z.strictObject(
  {
    disks: diskList(2, 64),
    group: name,
    "file-system": name,
    raid: z.union([z.literal(1), z.literal(5)], { error: "wants 1 or 5" }).default(5),
    mode: z
      .string({ error: 'wants an octal mode in quotes, such as "0755"' })
      .regex(/^[0-7]{3,4}$/, 'wants an octal mode in quotes, such as "0755"')
      .default("0755"),
    exports: z.array(exported, { error: "wants a list" }).default([]),
  },
  wantsKeys,
);

const management = z.strictObject({ host: addressText("an address of this terminal"), port }, wantsKeys);
const pair = z.record(z.string(), z.union([z.string(), z.number()]), { error: "wants keys and values" });

const planSchema = z.strictObject(
  {
    management,
    nodes: z
      .array(node, { error: "wants a list of two nodes" })
      .length(2, "wants two nodes: the one that serves first, then its partner"),
    shared: diskList(1, 4),
    backup: diskList(1, 4),
    data: data.optional(),
    pair: pair.default({}),
    "direct-io": flag.default(false),
  },
  wantsKeys,
);
type Written = z.infer<typeof planSchema>;

function knownKeys(keys: readonly PropertyKey[]): readonly string[] {
  const sections: Record<string, readonly string[]> = {
    management: Object.keys(management.shape),
    nodes: Object.keys(node.shape),
    data: Object.keys(keys[1] === "exports" ? exported.shape : data.shape),
  };
  return sections[String(keys[0])] ?? Object.keys(planSchema.shape);
}

/** @throws ConfigError with one line for every mistake */
export function loadPlan(file: string): ClusterPlan {
  return parsePlan(readWritten(file), file);
}

/** As `loadPlan`, from text; `file` names it in messages. */
export function parsePlan(written: string, file: string): ClusterPlan {
  const parsed = parseWritten(written, file, planSchema, knownKeys);
  const plan = toPlan(parsed.data, path.resolve(file));
  const mistakes: string[] = [];
  const mistake = (keys: readonly PropertyKey[], what: string) => mistakes.push(mistakeAt(parsed, file, keys, what));
  checkNodes(plan, mistake);
  checkDisks(plan, mistake);
  checkSight(plan, mistake);
  if (mistakes.length === 0) checkConfigurations(plan, mistake);
  if (mistakes.length > 0) throw new ConfigError(mistakes);
  return plan;
}

function toPlan(written: Written, file: string): ClusterPlan {
  const { data: wanted } = written;
  return {
    file,
    management: written.management,
    nodes: written.nodes.map((one) => ({
      ...one,
      config: one.config ?? path.join(one.install, "stripeward.yaml"),
      start: one.start ?? null,
    })),
    shared: written.shared,
    backup: written.backup,
    data:
      wanted === undefined
        ? null
        : {
            ...{ disks: wanted.disks, group: wanted.group, fileSystem: wanted["file-system"], level: wanted.raid },
            ...{ rootMode: Number.parseInt(wanted.mode, 8) },
            exports: wanted.exports.map(({ "privileged-port": privilegedPort, ...rule }) => ({
              ...rule,
              privilegedPort,
            })),
          },
    pair: written.pair,
    directIo: written["direct-io"],
  };
}

type Mistake = (keys: readonly PropertyKey[], what: string) => void;

function checkNodes({ nodes, management: { host, port: listens } }: ClusterPlan, mistake: Mistake): void {
  const [first, second] = nodes;
  if (first === undefined || second === undefined) return;
  if (first.name === second.name)
    mistake(["nodes", 1, "name"], `both nodes are named ${first.name}: they need different names`);
  if (first.address === second.address)
    mistake(["nodes", 1, "address"], `both nodes have the address ${first.address}: each needs its own`);
  for (const [i, one] of nodes.entries())
    if (one.address === host && one.port === listens)
      mistake(["nodes", i, "port"], `${host}:${listens} is where the terminal listens`);
  if (!first.local || !second.local) return;
  for (const key of ["install", "state", "socket", "config"] as const)
    if (first[key] === second[key])
      mistake(["nodes", 1], `both nodes are on this machine and have the same ${key}: ${first[key]}`);
}

/** Every disk of the plan, with the key that names it. */
function namedDisks({ shared, backup, data: wanted }: ClusterPlan): { place: string; keys: readonly PropertyKey[] }[] {
  const named = (keys: readonly PropertyKey[], places: readonly string[]) =>
    places.map((place, i) => ({ place, keys: [...keys, i] }));
  return [...named(["shared"], shared), ...named(["backup"], backup), ...named(["data", "disks"], wanted?.disks ?? [])];
}

function checkDisks(plan: ClusterPlan, mistake: Mistake): void {
  const seen = new Map<string, string>();
  for (const { place, keys } of namedDisks(plan)) {
    const real = realPath(place);
    const before = seen.get(real);
    if (before !== undefined) mistake(keys, `${place} is named twice: ${before} is the same disk`);
    seen.set(real, place);
  }
}

/** Both nodes must find every disk at the path that the plan names. */
function checkSight(plan: ClusterPlan, mistake: Mistake): void {
  for (const [i, { name: who, disks }] of plan.nodes.entries()) {
    const sees = new Set(disks.flatMap((pattern) => [pattern, ...expandPattern(pattern).map(realPath)]));
    for (const { place } of namedDisks(plan)) {
      if (sees.has(place) || sees.has(realPath(place))) continue;
      mistake(["nodes", i, "disks"], `${who} does not see ${place}: both nodes need all disks of the plan`);
    }
  }
}

/** What the daemon itself would object to. */
function checkConfigurations(plan: ClusterPlan, mistake: Mistake): void {
  for (const [i, one] of plan.nodes.entries()) {
    try {
      parseConfig(configurationOf(plan, one), one.config);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const line of error.lines)
        mistake(["nodes", i], `its configuration would be refused: ${line.split(": ").slice(1).join(": ")}`);
    }
  }
}

/** The configuration file of a node, YAML. */
export function configurationOf({ nodes, pair: settings, directIo }: ClusterPlan, one: PlannedNode): string {
  const partner = nodes.find((other) => other !== one)?.name;
  const configuration = {
    node: one.name,
    "state-directory": one.state,
    disks: one.disks,
    management: { socket: one.socket },
    nfs: { host: one.address, port: one.port },
    pair: { partner, ...settings },
    "direct-io": directIo,
  };
  return `# Written by "stripeward cluster init".\n${stringify(configuration)}`;
}

function realPath(place: string): string {
  try {
    return realpathSync(place);
  } catch {
    return path.resolve(place);
  }
}

/** A plan to begin with; `cluster plan` prints it. */
export const EXAMPLE_PLAN = `# What "stripeward cluster init --plan FILE" brings about. Run it on a machine that sees the disks of the shared LU.

# Where the nodes reach this terminal while they are installed. Nothing else listens there, and only until the end.
management:
  host: 192.0.2.9
  port: 7070

# Two nodes: the one that serves first, then its partner. Paths are paths on the node.
nodes:
  - name: chn1
    address: 192.0.2.1            # service address: where clients find it
    port: 2049
    install: /opt/stripeward      # releases, and the link "current" to the one that runs
    state: /var/lib/stripeward
    socket: /run/stripeward/stripeward.sock
    config: /etc/stripeward/stripeward.yaml
    disks: [/dev/disk/by-id/shelf-*]
    # local: true                 # this machine: the terminal runs the installer by itself
    # start: systemctl restart stripeward   # default: the installer starts the daemon detached
  - name: chn5
    address: 192.0.2.5
    config: /etc/stripeward/stripeward.yaml
    disks: [/dev/disk/by-id/shelf-*]

# Disks of the shared LU, and of its backup: 1 to 4 each, 32 MiB or more; each holds a copy.
shared: [/dev/disk/by-id/shelf-s1, /dev/disk/by-id/shelf-s2]
backup: [/dev/disk/by-id/shelf-b1]

# Optional: a group with a file system for clients.
data:
  disks: [/dev/disk/by-id/shelf-1, /dev/disk/by-id/shelf-2, /dev/disk/by-id/shelf-3]
  group: shelf
  file-system: data
  raid: 5
  mode: "0755"
  exports:
    - client: 192.0.2.0/24
      squash: root

# Optional: settings of the pair (docs/FAILOVER.md).
pair:
  lease-seconds: 10

# On two machines a must.
direct-io: true
`;
