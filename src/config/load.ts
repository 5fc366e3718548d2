import { readFileSync } from "node:fs";
import path from "node:path";
import { type Document, isMap, isNode, isPair, isScalar, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { messageOf } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import { type Config, configSchema, knownKeys, type PairConfig } from "./schema.js";
import { suggest } from "./suggest.js";

type Written = z.infer<typeof configSchema>;
type Issue = z.core.$ZodIssue;
interface Mistake {
  readonly offset: number;
  readonly what: string;
}

/** The configuration cannot be used. Each line is `file:line:column: key: what is wrong`. */
export class ConfigError extends Error {
  override name = "ConfigError";
  constructor(readonly lines: readonly string[]) {
    super(lines.join("\n"));
  }
}

/**
 * Read and validate a configuration file. Relative paths in it are relative to its folder.
 * @throws ConfigError with one line for every mistake, in the order of the file
 */
export function loadConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read: ${messageOf(error)}`]);
  }
  return parseConfig(text, file);
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

type KnownKeys = (path: readonly PropertyKey[]) => readonly string[];

/** What a file says, and where it says it. */
interface ParsedFile<T> {
  readonly data: T;
  readonly document: Document;
  readonly lineCounter: LineCounter;
}

/**
 * A YAML file of ours against its schema.
 * @param known  keys that may stand at a path, for a suggestion beside an unknown one
 * @throws ConfigError with one line for every mistake, in the order of the file
 */
export function parseWritten<S extends z.ZodType>(
  text: string,
  file: string,
  schema: S,
  known: KnownKeys,
): ParsedFile<z.infer<S>> {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const syntax = document.errors.map(({ pos, message }) => ({ offset: pos[0], what: `syntax: ${oneLine(message)}` }));
  if (syntax.length > 0) throw asError(file, lineCounter, syntax);
  const result = schema.safeParse(document.toJS() ?? {});
  if (result.success) return { data: result.data, document, lineCounter };
  const mistakes = result.error.issues.flatMap((issue) => mistakesOf(document, issue, known));
  throw asError(file, lineCounter, mistakes);
}

/** A mistake that no schema finds, as one of those lines. */
export function mistakeAt(
  { document, lineCounter }: Omit<ParsedFile<unknown>, "data">,
  file: string,
  keys: readonly PropertyKey[],
  what: string,
): string {
  const { line, col } = lineCounter.linePos(offsetOf(document, keys));
  return `${file}:${Math.max(1, line)}:${Math.max(1, col)}: ${keyName(keys)}: ${what}`;
}

function asError(file: string, lineCounter: LineCounter, mistakes: readonly Mistake[]): ConfigError {
  const ordered = [...mistakes].sort((a, b) => a.offset - b.offset);
  return new ConfigError(
    ordered.map(({ offset, what }) => {
      const { line, col } = lineCounter.linePos(offset);
      return `${file}:${Math.max(1, line)}:${Math.max(1, col)}: ${what}`;
    }),
  );
}

function mistakesOf(document: Document, issue: Issue, known: KnownKeys): Mistake[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => unknownKey(document, issue.path, key, known(issue.path)));
  const name = keyName(issue.path);
  return [
    { offset: offsetOf(document, issue.path), what: `${name === "" ? "" : `${name}: `}${oneLine(issue.message)}` },
  ];
}

function unknownKey(
  document: Document,
  parent: readonly PropertyKey[],
  key: string,
  known: readonly string[],
): Mistake {
  const near = suggest(key, known);
  const hint = near === undefined ? `known here: ${known.join(", ")}` : `did you mean ${near}?`;
  return { offset: keyOffset(document, parent, key), what: `${keyName([...parent, key])}: unknown key; ${hint}` };
}

/** `disks.0` reads `disks[0]`. */
function keyName(keys: readonly PropertyKey[]): string {
  return keys.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i === 0 ? "" : "."}${String(key)}`)).join("");
}

/** Where the value stands; for a value that is missing, where its parent stands. */
function offsetOf(document: Document, keys: readonly PropertyKey[]): number {
  for (let depth = keys.length; depth >= 0; depth--) {
    const node = depth === 0 ? document.contents : document.getIn(keys.slice(0, depth), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function keyOffset(document: Document, parent: readonly PropertyKey[], key: string): number {
  const map = parent.length === 0 ? document.contents : document.getIn(parent, true);
  if (!isMap(map)) return 0;
  const pair = map.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key);
  return pair !== undefined && isScalar(pair.key) && pair.key.range ? pair.key.range[0] : 0;
}

function oneLine(message: string): string {
  return message.replace(/\s*\n\s*/g, " ").trim();
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

function pairOf(written: Written["pair"], folder: string): PairConfig | null {
  if (written === undefined) return null;
  const { partner, "fence-command": fence, "address-command": address, "watchdog-device": watchdog } = written;
  return {
    partner,
    fenceCommand: fence === undefined ? null : path.resolve(folder, fence),
    addressCommand: address === undefined ? null : path.resolve(folder, address),
    watchdogDevice: watchdog === undefined ? null : path.resolve(folder, watchdog),
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
