import { isIP } from "node:net";
import { z } from "zod";
import { messageOf } from "../lib/errors.js";
import { formatSize, parseSize } from "../lib/size.js";
import { LIMITS } from "../limits.js";

/** Levels of the log, most urgent first. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A size as people write it, `64M` or 67108864, within limits. */
function size(minBytes: number, maxBytes: number) {
  return z.union([z.string(), z.number()], { error: "wants a size such as 64M" }).transform((value, context) => {
    try {
      const bytes = parseSize(String(value));
      if (bytes >= minBytes && bytes <= maxBytes) return bytes;
      context.addIssue(`wants ${formatSize(minBytes)} to ${formatSize(maxBytes)}, not ${formatSize(bytes)}`);
    } catch (error) {
      context.addIssue(messageOf(error));
    }
    return z.NEVER;
  });
}

const text = (what: string) => z.string({ error: `wants ${what}` }).min(1, `wants ${what}`);

/** A path that the system calls take: they would cut it at a NUL, and refuse it when it is too long. */
export const pathText = (what: string) =>
  text(what)
    .refine((value) => !/\p{Cc}/u.test(value), `wants ${what}, without control characters`)
    .refine(
      (value) => Buffer.byteLength(value) <= LIMITS.pathBytesMax,
      `wants ${what}, of ${LIMITS.pathBytesMax} bytes at most`,
    );

/** A name would be looked up at each start, with whatever answer. */
export const addressText = (what: string) =>
  text(what).refine((value) => isIP(value) !== 0, `wants ${what}: an IPv4 or IPv6 address`);

const flag = z.boolean({ error: "wants true or false" });

const port = z
  .int({ error: "wants a port number, 0 to 65535 (0: any free one)" })
  .min(0, "wants a port number, 0 to 65535 (0: any free one)")
  .max(65535, "wants a port number, 0 to 65535 (0: any free one)");

/** Octal text: YAML 1.2 reads a bare 0600 as the number six hundred, so a number is refused rather than guessed at. */
const mode = z
  .string({ error: 'wants an octal mode in quotes, such as "0600"' })
  .regex(/^0?[0-7]{3}$/, 'wants an octal mode in quotes, such as "0600"')
  .transform((value) => Number.parseInt(value, 8))
  .refine(
    (value) => (value & 0o007) === 0,
    'lets everybody on this machine administer: wants no rights for others, such as "0660"',
  );

/** For a section that is not one; unknown keys keep their own issue. */
const wantsKeys = {
  error: (issue: { readonly code?: string | undefined }) =>
    issue.code === "invalid_type" ? "wants keys and values" : undefined,
};

const management = z.strictObject(
  {
    socket: pathText("a path").default("/run/stripeward/stripeward.sock"),
    mode: mode.default(0o600),
  },
  wantsKeys,
);

const nfs = z.strictObject(
  {
    host: addressText("an address to listen on, such as 0.0.0.0").default("0.0.0.0"),
    port: port.default(2049),
    rpcbind: flag.default(false),
    portmap: flag.default(false),
  },
  wantsKeys,
);

const memory = z.strictObject(
  {
    "data-cache": size(LIMITS.dataCacheBytesMin, LIMITS.dataCacheBytesMax).default(LIMITS.dataCacheBytesDefault),
    "metadata-cache": size(LIMITS.metadataCacheBytesMin, LIMITS.metadataCacheBytesMax).default(
      LIMITS.metadataCacheBytesDefault,
    ),
  },
  wantsKeys,
);

const waitSeconds = (what: string) => {
  const wants = `wants ${what}: whole seconds, 0 to ${LIMITS.careSecondsMax}`;
  return z.int({ error: wants }).min(0, wants).max(LIMITS.careSecondsMax, wants);
};

/** How long the cabinet waits before it helps itself. */
const care = z.strictObject(
  {
    "spare-delay-seconds": waitSeconds("how long a missing disk may be late").default(30),
    "disk-scan-seconds": waitSeconds(
      "how often disks are asked whether they are there, and missing ones are looked for (0: never)",
    ).default(10),
  },
  wantsKeys,
);

/** When a member that answers later than its neighbours is left out. */
const slowDisks = z.strictObject(
  {
    factor: z
      .number({ error: "wants how many times later than its neighbours, 2 to 1000" })
      .min(2, "wants 2 at least")
      .max(1000, "wants 1000 at most")
      .default(LIMITS.slowDiskFactor),
    seconds: waitSeconds("for how long a disk must be slow before it is left out (0: it never is)").default(
      LIMITS.slowDiskSeconds,
    ),
  },
  wantsKeys,
);

/** The other node of a pair, which looks at the same disks. */
const REACH_MAX = 4;
const wantsTarget = "wants gateway, an address, or an address with a port such as 192.0.2.254:53 or [2001:db8::1]:53";

/** Somebody whom a node reaches as long as clients reach the node. @param port  null: by ARP or ICMP */
export interface ReachTarget {
  readonly text: string;
  readonly host: string;
  readonly port: number | null;
}

const reachTarget = z.string({ error: wantsTarget }).transform((text, context): ReachTarget => {
  const [, v6, v4, digits] = /^(?:\[([0-9A-Fa-f:]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? v4 ?? text;
  const targetPort = digits === undefined ? null : Number(digits);
  const isPort = targetPort === null || (targetPort > 0 && targetPort < 65_536);
  if (isPort && (isIP(host) !== 0 || text === "gateway")) return { text, host, port: targetPort };
  context.addIssue(wantsTarget);
  return z.NEVER;
});

const pair = z
  .strictObject(
    {
      partner: z
        .string({ error: "wants the partner's node name, chn1 to chn8" })
        .regex(/^chn[1-8]$/, "wants the partner's node name, chn1 to chn8"),
      "fence-command": pathText("the path of an executable").optional(),
      "address-command": pathText("the path of an executable").optional(),
      "watchdog-device": pathText("the path of a watchdog, such as /dev/watchdog").optional(),
      reach: z
        .array(reachTarget, { error: "wants a list of targets" })
        .max(REACH_MAX, `wants ${REACH_MAX} targets at most`)
        .default([]),
      "heartbeat-milliseconds": z
        .int({ error: "wants 50 to 5000" })
        .min(50, "wants 50 to 5000")
        .max(5000, "wants 50 to 5000")
        .default(200),
      "lease-seconds": z.number({ error: "wants seconds" }).min(0.5, "wants 0.5 at least").max(600).default(10),
    },
    wantsKeys,
  )
  .optional();

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, min: 60, h: 3600, d: 86_400, w: 604_800 };
const wantsTime = "wants a time such as 12h, 24h or 7d";

/** A backup that the daemon makes by itself. */
const backup = z
  .strictObject(
    {
      fs: text("the name of a file system").optional(),
      shared: flag.optional(),
      to: pathText("a path with {time} in it").refine(
        (value) => value.includes("{time}"),
        "wants a path with {time} in it, such as /backup/data-{time}.swb",
      ),
      every: z
        .string({ error: wantsTime })
        .regex(/^\d{1,6}\s*(s|m|min|h|d|w)$/, wantsTime)
        .transform((value) => Number.parseInt(value, 10) * (SECONDS[value.replace(/[\d\s]/g, "")] ?? 1))
        .refine((seconds) => seconds > 0, wantsTime),
      keep: z
        .int({ error: "wants how many backups are kept, 1 to 1000" })
        .min(1, "wants 1 at least")
        .max(1000, "wants 1000 at most")
        .default(7),
    },
    wantsKeys,
  )
  .refine(({ fs, shared }) => (fs === undefined) === (shared === true), "wants either fs: NAME or shared: true");

/** The file as it is written. Every key has a default but `disks`. */
export const configSchema = z.strictObject(
  {
    node: z
      .string({ error: "wants a node name, chn1 to chn8" })
      .regex(/^chn[1-8]$/, "wants a node name, chn1 to chn8")
      .default("chn1"),
    "state-directory": pathText("a path").default("/var/lib/stripeward"),
    disks: z.array(pathText("a path or a pattern such as /srv/disks/*.img"), {
      error: (issue) => (issue.input === undefined ? "is missing: where to look for disks" : "wants a list of paths"),
    }),
    management: management.prefault({}),
    nfs: nfs.prefault({}),
    memory: memory.prefault({}),
    care: care.prefault({}),
    "slow-disks": slowDisks.prefault({}),
    pair,
    backups: z.array(backup, { error: "wants a list of backups" }).default([]),
    "direct-io": flag.default(false),
    "fault-injection": flag.default(false),
    "volatile-cache": flag.default(false),
    "log-level": z.enum(LOG_LEVELS, { error: `wants one of ${LOG_LEVELS.join(", ")}` }).default("info"),
  },
  wantsKeys,
);

export interface PairConfig {
  readonly partner: string;
  /** Called to have the power of the partner's machine cut; null: none, its lease must expire. */
  readonly fenceCommand: string | null;
  /** Called to make a service address this machine's, and to give it up; null: both nodes have them all (127/8). */
  readonly addressCommand: string | null;
  /** Resets the machine when this node, while it serves, has not been heard for as long as its lease lasts; null: none. */
  readonly watchdogDevice: string | null;
  /** Whoever reaches none of them, while the partner does, lets go; empty: a cut network with the carrier up is not noticed. */
  readonly reach: readonly ReachTarget[];
  readonly heartbeatMs: number;
  readonly leaseMs: number;
}

/** A backup by schedule. */
export interface BackupConfig {
  /** null: of the shared LU. */
  readonly fileSystem: string | null;
  /** Absolute, with {time} in it. */
  readonly to: string;
  readonly everySeconds: number;
  /** So many at least can be restored from. */
  readonly keep: number;
}

/** What the daemon works with: names as in code, paths absolute. Says where to look and listen; the rest is on the disks' labels. */
export interface Config {
  /** The file it came from. */
  readonly file: string;
  readonly node: string;
  readonly stateDirectory: string;
  /** Absolute paths and patterns. */
  readonly disks: readonly string[];
  readonly management: { readonly socket: string; readonly mode: number };
  readonly nfs: {
    readonly host: string;
    readonly port: number;
    readonly rpcbind: boolean;
    /** Be the port mapper of the address, on port 111. */
    readonly portmap: boolean;
  };
  /** Bytes, per file system. */
  readonly memory: { readonly dataCacheBytes: number; readonly metadataCacheBytes: number };
  /** See control/parts.ts. */
  readonly care: { readonly spareDelaySeconds: number; readonly diskScanSeconds: number };
  /** See raid/aside-watch.ts. */
  readonly slowDisks: { readonly factor: number; readonly afterMs: number };
  readonly pair: PairConfig | null;
  readonly backups: readonly BackupConfig[];
  readonly directIo: boolean;
  /** For rigs: the management API can make disks fail and lie, and cut the power. */
  readonly faultInjection: boolean;
  /** With faultInjection: writes that were not flushed are lost or torn when the power is cut. */
  readonly volatileCache: boolean;
  readonly logLevel: LogLevel;
}

/** The keys that may stand at `path`, for a suggestion beside an unknown one. */
export function knownKeys(path: readonly PropertyKey[]): readonly string[] {
  if (path.length === 0) return Object.keys(configSchema.shape);
  if (path[0] === "backups") return Object.keys(backup.shape);
  const sections: Record<string, readonly string[]> = {
    management: Object.keys(management.shape),
    nfs: Object.keys(nfs.shape),
    memory: Object.keys(memory.shape),
    care: Object.keys(care.shape),
    "slow-disks": Object.keys(slowDisks.shape),
    pair: Object.keys(pair.unwrap().shape),
  };
  return sections[String(path[0])] ?? [];
}
