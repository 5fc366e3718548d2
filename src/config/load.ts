import path from "node:path";
import type { Document, LineCounter } from "yaml";
import type { z } from "zod";
import { LIMITS } from "../limits.js";
import { type Config, configSchema, knownKeys, type PairConfig } from "./schema.js";
import { asError, type Mistake, offsetOf, parseWritten, readWritten } from "./written.js";

type Written = z.infer<typeof configSchema>;

/**
 * Read and validate a configuration file. Relative paths in it are relative to its folder.
 * @throws ConfigError with one line for every mistake, in the order of the file
 */
export function loadConfig(file: string): Config {
  return parseConfig(readWritten(file), file);
}

/** As `loadConfig`, from text; `file` names it in messages. */
export function parseConfig(text: string, file: string): Config {
  const { data, document, lineCounter } = parseWritten(text, file, configSchema, knownKeys);
  const config = toConfig(data, path.resolve(file));
  checkPaths(config, document, file, lineCounter);
  checkFaults(config, document, file, lineCounter);
  checkPair(config, document, file, lineCounter);
  return config;
}

function toConfig(written: Written, file: string): Config {
  const folder = path.dirname(file);
  return {
    file,
    node: written.node,
    stateDirectory: path.resolve(folder, written["state-directory"]),
    disks: written.disks.map((disk) => path.resolve(folder, disk)),
    management: { socket: path.resolve(folder, written.management.socket), mode: written.management.mode },
    nfs: written.nfs,
    memory: {
      dataCacheBytes: written.memory["data-cache"],
      metadataCacheBytes: written.memory["metadata-cache"],
    },
    care: {
      spareDelaySeconds: written.care["spare-delay-seconds"],
      diskScanSeconds: written.care["disk-scan-seconds"],
    },
    slowDisks: slowDisksOf(written["slow-disks"]),
    pair: pairOf(written.pair, folder),
    backups: written.backups.map(({ fs = null, to, every, keep }) => {
      return { fileSystem: fs, to: path.resolve(folder, to), everySeconds: every, keep };
    }),
    directIo: written["direct-io"],
    faultInjection: written["fault-injection"],
    volatileCache: written["volatile-cache"],
    logLevel: written["log-level"],
  };
}

function slowDisksOf({ factor, seconds }: Written["slow-disks"]): Config["slowDisks"] {
  return { factor, afterMs: seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000 };
}

function pairOf(written: Written["pair"], folder: string): PairConfig | null {
  if (written === undefined) return null;
  const { partner, "fence-command": fence, "address-command": address, "watchdog-device": watchdog, reach } = written;
  return {
    partner,
    fenceCommand: fence === undefined ? null : path.resolve(folder, fence),
    addressCommand: address === undefined ? null : path.resolve(folder, address),
    watchdogDevice: watchdog === undefined ? null : path.resolve(folder, watchdog),
    reach,
    heartbeatMs: written["heartbeat-milliseconds"],
    leaseMs: written["lease-seconds"] * 1000,
  };
}

/** A lease that ends before a few heartbeats could be missed would end by itself. */
const HEARTBEATS_PER_LEASE = 5;

function checkPair(config: Config, document: Document, file: string, lineCounter: LineCounter): void {
  const { pair, node, nfs } = config;
  if (pair === null) return;
  const mistakes: Mistake[] = [];
  const mistake = (key: string, what: string) =>
    mistakes.push({ offset: offsetOf(document, ["pair", key]), what: `pair.${key}: ${what}` });
  if (pair.partner === node) mistake("partner", `${node} is this node: the two nodes of a pair need different names`);
  const leastMs = HEARTBEATS_PER_LEASE * pair.heartbeatMs;
  if (pair.leaseMs < leastMs) {
    const seconds = leastMs / 1000;
    mistake(
      "lease-seconds",
      `${pair.leaseMs / 1000} is too short for a heartbeat every ${pair.heartbeatMs} ms: ${seconds} at least`,
    );
  }
  const bare = pair.reach.find(({ port }) => port === null);
  if (bare !== undefined && pair.addressCommand === null)
    mistake(
      "reach",
      `${bare.text} is asked by pair.address-command, which is missing; or give it a port (${bare.text}:53)`,
    );
  if (nfs.port === 0)
    mistake("partner", "a pair needs a fixed nfs.port: clients must find the service again at the partner");
  if (mistakes.length > 0) throw asError(file, lineCounter, mistakes);
}

/** The kernel's limit on socket paths would otherwise show as a path that is silently cut. */
function checkPaths(config: Config, document: Document, file: string, lineCounter: LineCounter): void {
  const byteCount = Buffer.byteLength(config.management.socket);
  if (byteCount <= LIMITS.socketPathBytesMax) return;
  const what = `management.socket: the path has ${byteCount} bytes; the kernel allows ${LIMITS.socketPathBytesMax}`;
  throw asError(file, lineCounter, [{ offset: offsetOf(document, ["management", "socket"]), what }]);
}

/** A cache that loses what it was given must not come about by one word in the wrong file. */
function checkFaults(config: Config, document: Document, file: string, lineCounter: LineCounter): void {
  if (!config.volatileCache || config.faultInjection) return;
  const what = "volatile-cache: is for rigs only and wants fault-injection: true, too";
  throw asError(file, lineCounter, [{ offset: offsetOf(document, ["volatile-cache"]), what }]);
}
