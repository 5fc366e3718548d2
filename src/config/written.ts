import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLMap,
} from "yaml";
import type { z } from "zod";
import { messageOf } from "../lib/errors.js";
import { LIMITS } from "../limits.js";
import { suggest } from "./suggest.js";

/** Of a file with thousands of mistakes so many are told. */
const MISTAKES_MAX = 50;

type Issue = z.core.$ZodIssue;
export interface Mistake {
  /** Of the text, where it stands. */
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

/** @throws ConfigError when there is no such file, or it is none that people write */
export function readWritten(file: string): string {
  const content = readBounded(file);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    const line = content.subarray(0, firstBadByte(content)).filter((byte) => byte === 0x0a).length + 1;
    throw new ConfigError([`${file}:${line}:1: is not UTF-8`]);
  }
}

function readBounded(file: string): Buffer {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    const { size } = fstatSync(descriptor);
    if (size > LIMITS.configBytesMax)
      throw new Error(`it has ${size} bytes, and ${LIMITS.configBytesMax} are the most that a configuration may have`);
    return readFileSync(descriptor);
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read: ${messageOf(error)}`]);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Where a text stops to be UTF-8; its length when it does not. */
function firstBadByte(content: Buffer): number {
  const decoded = content.toString("utf8");
  const at = decoded.indexOf("\ufffd");
  return at < 0 ? content.length : Buffer.byteLength(decoded.slice(0, at));
}

export type KnownKeys = (path: readonly PropertyKey[]) => readonly string[];

/** What a file says, and where it says it. */
export interface ParsedFile<T> {
  readonly data: T;
  readonly document: Document;
  readonly lineCounter: LineCounter;
}

/**
 * A YAML file of ours against its schema, in time linear in its length.
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
  // The library compares each key with each other one; strangeThings looks once.
  const document = parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: false });
  const syntax = document.errors.map(({ pos, message }) => ({ offset: pos[0], what: `syntax: ${syntaxOf(message)}` }));
  if (syntax.length > 0) throw asError(file, lineCounter, syntax);
  const strange = strangeThings(document);
  if (strange.length > 0) throw asError(file, lineCounter, strange);
  const result = schema.safeParse(document.toJS() ?? {});
  if (result.success) return { data: result.data, document, lineCounter };
  const places = new Places(document);
  const mistakes = result.error.issues.flatMap((issue) => mistakesOf(places, issue, known));
  throw asError(file, lineCounter, mistakes);
}

/** What YAML knows and a configuration has no use for: each is refused where it stands, and never followed. */
function strangeThings(document: Document): Mistake[] {
  const mistakes: Mistake[] = [];
  const refuse = (node: Node, what: string) => mistakes.push({ offset: node.range?.[0] ?? 0, what });
  visit(document, {
    Alias: (_, node) => void refuse(node, `*${node.source}: aliases are not used here: write the value out`),
    Node: (_, node) => {
      if (!isAlias(node) && node.tag !== undefined) refuse(node, `${node.tag}: tags are not used here`);
      if (isCollection(node) && isMap(node)) mistakes.push(...repeatedKeys(node));
    },
  });
  return mistakes;
}

function repeatedKeys(map: YAMLMap): Mistake[] {
  const seen = new Set<string>();
  const mistakes: Mistake[] = [];
  for (const { key } of map.items) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    if (seen.has(name)) mistakes.push({ offset: key.range?.[0] ?? 0, what: `syntax: the key ${name} stands twice` });
    seen.add(name);
  }
  return mistakes;
}

function syntaxOf(message: string): string {
  return /call stack/i.test(message) ? "it is nested too deeply" : oneLine(message);
}

/** A mistake that no schema finds, as one of those lines. */
export function mistakeAt(
  { document, lineCounter }: Omit<ParsedFile<unknown>, "data">,
  file: string,
  keys: readonly PropertyKey[],
  what: string,
): string {
  return lineOf(file, lineCounter, { offset: offsetOf(document, keys), what: `${keyName(keys)}: ${what}` });
}

export function asError(file: string, lineCounter: LineCounter, mistakes: readonly Mistake[]): ConfigError {
  const ordered = [...mistakes].sort((a, b) => a.offset - b.offset);
  const lines = ordered.slice(0, MISTAKES_MAX).map((mistake) => lineOf(file, lineCounter, mistake));
  if (ordered.length > MISTAKES_MAX) lines.push(`${file}: ${ordered.length - MISTAKES_MAX} more mistakes`);
  return new ConfigError(lines);
}

function lineOf(file: string, lineCounter: LineCounter, { offset, what }: Mistake): string {
  const { line, col } = lineCounter.linePos(offset);
  return `${file}:${Math.max(1, line)}:${Math.max(1, col)}: ${what}`;
}

function mistakesOf(places: Places, issue: Issue, known: KnownKeys): Mistake[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => unknownKey(places, issue.path, key, known(issue.path)));
  const name = keyName(issue.path);
  const what = `${name === "" ? "" : `${name}: `}${oneLine(issue.message)}`;
  return [{ offset: offsetOf(places.document, issue.path), what }];
}

function unknownKey(places: Places, parent: readonly PropertyKey[], key: string, known: readonly string[]): Mistake {
  const near = suggest(key, known);
  const hint = near === undefined ? `known here: ${known.join(", ")}` : `did you mean ${near}?`;
  return { offset: places.ofKey(parent, key), what: `${keyName([...parent, key])}: unknown key; ${hint}` };
}

/** Where keys stand: a map is gone through once, however many of its keys are asked for. */
class Places {
  readonly #ofMap = new Map<unknown, Map<string, number>>();

  constructor(readonly document: Document) {}

  ofKey(parent: readonly PropertyKey[], key: string): number {
    const map = parent.length === 0 ? this.document.contents : this.document.getIn(parent, true);
    if (!isMap(map)) return 0;
    let places = this.#ofMap.get(map);
    if (places === undefined) {
      places = new Map();
      for (const item of map.items)
        if (isPair(item) && isScalar(item.key)) places.set(String(item.key.value), item.key.range?.[0] ?? 0);
      this.#ofMap.set(map, places);
    }
    return places.get(key) ?? 0;
  }
}

/** `disks.0` reads `disks[0]`. */
function keyName(keys: readonly PropertyKey[]): string {
  return keys.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i === 0 ? "" : "."}${String(key)}`)).join("");
}

/** Where the value stands; for a value that is missing, where its parent stands. */
export function offsetOf(document: Document, keys: readonly PropertyKey[]): number {
  for (let depth = keys.length; depth >= 0; depth--) {
    const node = depth === 0 ? document.contents : document.getIn(keys.slice(0, depth), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function oneLine(message: string): string {
  return message.replace(/\s*\n\s*/g, " ").trim();
}
