import { createHash } from "node:crypto";
import { createReadStream, existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, renameSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { constants, createGzip } from "node:zlib";
import { StorageError } from "../lib/errors.js";
import { makeFolder } from "../lib/make-folder.js";
import { TAR_END, type TarEntry, tarHeader, tarPadding } from "./tar.js";

/** A release as nodes get it. */
export interface Bundle {
  readonly file: string;
  /** Name in the URL: stripeward-VERSION.tar.gz. */
  readonly name: string;
  readonly version: string;
  /** Hexadecimal, of the whole file. */
  readonly sha256: string;
  readonly byteCount: number;
  /** Processor architecture and C library's platform that the native modules were built for: `linux-x64`. */
  readonly platform: string;
}

interface PackageFile {
  readonly name?: string;
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** What of the package goes along, if it is there. */
const TOP = ["package.json", "LICENSE", "systemd", "docs/man", "dist/src"];
/** Left out: what only builds, tests or explains the dependencies. */
const SKIPPED_FOLDERS = new Set([
  ".bin",
  "deps",
  "test",
  "tests",
  "benchmark",
  "benchmarks",
  "example",
  "examples",
  "docs",
  ".github",
  "obj.target",
  ".deps",
]);
const SKIPPED_FILES = /\.(map|md|markdown|ts|cts|mts|cc|cpp|c|h|hpp|gyp|gypi|mk|a|o|d|yml)$|^(Makefile|wscript)$/;

/**
 * Pack the release that runs here: compiled code, the production dependencies with their native modules as they were built here, units and
 * manual. Names are sorted and times left out, so that one build gives one checksum.
 * @param root  folder of package.json
 * @throws StorageError EIO when a part of the release is missing
 */
export async function makeBundle(root: string, folder: string): Promise<Bundle> {
  const { version = "unknown" } = readPackage(root);
  if (!existsSync(path.join(root, "dist/src/cli/main.js")))
    throw new StorageError("EIO", `${root} holds no built release: run npm run build`);
  const files = [
    ...TOP.flatMap((name) => walk(root, name, false)),
    ...modulesOf(root).flatMap((name) => walk(root, name, true)),
  ];
  makeFolder(folder, 0o700);
  const name = `stripeward-${version}.tar.gz`;
  const file = path.join(folder, name);
  const { sha256, byteCount } = await pack(root, [...new Set(files)].sort(), `${file}.new`);
  renameSync(`${file}.new`, file);
  return { file, name, version, sha256, byteCount, platform: `${process.platform}-${process.arch}` };
}

function readPackage(folder: string): PackageFile {
  return JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8")) as PackageFile;
}

/** Folders of the production dependencies, and theirs, as npm has laid them out; relative to the root. */
function modulesOf(root: string): string[] {
  const found = new Set<string>();
  const visit = (from: string): void => {
    const { dependencies = {}, optionalDependencies = {} } = readPackage(path.join(root, from));
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const place = resolveModule(root, from, name);
      if (place === null) {
        // What is optional is not there on every platform.
        if (optionalDependencies[name] !== undefined) continue;
        throw new StorageError("EIO", `the dependency ${name} is not installed: run npm ci`);
      }
      if (found.has(place)) continue;
      found.add(place);
      visit(place);
    }
  };
  visit("");
  return [...found];
}

/** Nearest node_modules upwards, as Node looks for it. */
function resolveModule(root: string, from: string, name: string): string | null {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const base = folder === "." ? "" : folder;
    const place = path.join(base, "node_modules", name);
    if (existsSync(path.join(root, place, "package.json"))) return place;
    if (base === "") return null;
  }
}

/** Files below a place, relative to the root. Nested modules are visited by themselves. */
function walk(root: string, place: string, isModule: boolean): string[] {
  const full = path.join(root, place);
  if (!existsSync(full)) return [];
  if (!lstatSync(full).isDirectory()) return [place];
  return readdirSync(full, { withFileTypes: true }).flatMap((entry) => {
    const name = path.posix.join(place, entry.name);
    if (!isModule) return walk(root, name, false).filter((one) => !one.endsWith(".map"));
    if (entry.isDirectory())
      return entry.name === "node_modules" || SKIPPED_FOLDERS.has(entry.name) ? [] : walk(root, name, true);
    return SKIPPED_FILES.test(entry.name) ? [] : [name];
  });
}

async function pack(
  root: string,
  names: readonly string[],
  file: string,
): Promise<{ sha256: string; byteCount: number }> {
  // Level 1: half the size of the files for a tenth of the time of the best one.
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  const hash = createHash("sha256");
  const target = await open(file, "w", 0o600);
  let byteCount = 0;
  const written = (async () => {
    for await (const piece of gzip as AsyncIterable<Buffer>) {
      hash.update(piece);
      byteCount += piece.length;
      await target.write(piece);
    }
  })();
  try {
    for (const name of names) for (const piece of entryOf(root, name)) await put(gzip, piece);
    gzip.end(TAR_END);
    await written;
    await target.sync();
  } finally {
    await target.close();
  }
  return { sha256: hash.digest("hex"), byteCount };
}

function put(gzip: ReturnType<typeof createGzip>, piece: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    gzip.write(piece, (error) => (error == null ? resolve() : reject(error)));
  });
}

function entryOf(root: string, name: string): Buffer[] {
  const full = path.join(root, name);
  const stats = lstatSync(full);
  const entry: TarEntry = {
    ...{ name, executable: (stats.mode & 0o100) !== 0 && !stats.isSymbolicLink(), sizeBytes: stats.size },
    link: stats.isSymbolicLink() ? readlinkSync(full) : null,
  };
  if (entry.link !== null) return [tarHeader(entry)];
  const content = readFileSync(full);
  return [tarHeader({ ...entry, sizeBytes: content.length }), content, tarPadding(content.length)];
}

/** Whether a file still has this checksum. */
export async function hasChecksum(file: string, sha256: string): Promise<boolean> {
  if (!existsSync(file)) return false;
  const hash = createHash("sha256");
  for await (const piece of createReadStream(file)) hash.update(piece as Buffer);
  return hash.digest("hex") === sha256;
}
