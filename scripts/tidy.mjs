// What no formatter checks: that imports point down the data path, that files stay small, that nothing is exported or kept for
// nobody, and that no debug text, unfinished mark or path of somebody's machine is left. Exit status 1 when something is found.
//
// Before it looks at the project, each rule must catch its canary: a checker that cannot fail proves nothing.
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const LINES_MAX = 600;

/**
 * What a folder of src/ may import besides itself, from the bottom up (docs/ARCHITECTURE.md). A name with ".ts" is that file only:
 * a protocol sees the file system through its contract, the file system sees of parity/ only where buffers come from.
 */
const MAY_IMPORT = {
  lib: [],
  "limits.ts": ["lib"],
  config: ["lib", "limits.ts"],
  parity: ["lib"],
  device: ["lib"],
  raid: ["device", "parity", "lib"],
  lu: ["raid", "parity/arena.ts", "lib"],
  pagestore: ["lu", "parity/arena.ts", "lib"],
  fs: ["pagestore", "lu", "parity/arena.ts", "lib"],
  backup: ["fs", "lib"],
  protocol: ["fs/vfs.ts", "lib"],
  ha: ["pagestore", "lu", "raid", "device", "lib", "limits.ts"],
  control: [
    "backup",
    "ha",
    "protocol",
    "fs",
    "pagestore",
    "lu",
    "raid",
    "parity",
    "device",
    "config",
    "lib",
    "limits.ts",
  ],
  cluster: ["control", "ha", "raid", "device", "config", "lib", "limits.ts"],
  cli: ["main.ts", "cluster", "control", "backup", "config", "lib", "limits.ts"],
  "main.ts": [
    "control",
    "ha",
    "protocol",
    "fs",
    "pagestore",
    "lu",
    "raid",
    "parity",
    "device",
    "config",
    "lib",
    "limits.ts",
  ],
};
/** Beside each other, never on each other: what two protocols share is in rpc/, xdr/ or above them. */
const SIBLINGS = { protocol: ["mount3", "nfs3", "portmap", "nlm4", "nsm", "nbd"] };

// Put together, so that this file does not find itself.
const UNFINISHED = new RegExp(
  `\\b(${["TO", "FIX", "XX", "HA"].map((a, i) => a + ["DO", "ME", "X", "CK"][i]).join("|")})\\b`,
);
const SOMEBODYS_PATH = /(?<![\w.$}])\/(home|root|Users|work)\/[\w.]/;
const DEBUG = /^\s*(console\.(log|debug|trace|dir)\(|debugger\b)/;
const ONLY = /\b(test|describe|it)\.only\(/;
const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^;"']*?\bfrom\s+"(\.[^"]+)"|\bimport\(\s*"(\.[^"]+)"\s*\)|(?:^|\n)import\s+"(\.[^"]+)"/g;
const EXPORT =
  /^export (?:declare )?(?:abstract )?(?:async )?(?:const|let|function\*?|class|interface|type|enum) (\w+)/gm;
/** Started by name, imported by nobody. */
const ENTRIES = ["src/main.ts", "src/cli/main.ts"];

const isSource = (file) => /^src\/.*\.ts$/.test(file) && !file.endsWith(".d.ts") && !file.includes("/assembly/");
const isCode = (file) => /\.(ts|mjs|c)$/.test(file);

/** Paths that a file imports, relative to the root, with the suffix of the source. */
function importsOf(file, text) {
  return [...text.matchAll(IMPORT)].map(([, a, b, c]) =>
    path.posix.normalize(path.posix.join(path.posix.dirname(file), a ?? b ?? c)).replace(/\.js$/, ".ts"),
  );
}

function importProblem(file, target) {
  const [, from, sub] = file.split("/");
  const [top, to, targetSub] = target.split("/");
  if (top !== "src") return `src imports ${target}`;
  if (from === to) {
    const kin = SIBLINGS[from] ?? [];
    return sub !== targetSub && kin.includes(sub) && kin.includes(targetSub)
      ? `${sub} imports its sibling ${target}`
      : undefined;
  }
  const allowed = MAY_IMPORT[from];
  if (allowed === undefined) return `src/${from} is not in the table of layers`;
  const below = target.slice("src/".length);
  return allowed.includes(to) || allowed.includes(below) ? undefined : `${from} must not import ${target}`;
}

function lineProblems(file, text) {
  const found = [];
  const printing = !isSource(file) || file.startsWith("src/cli/");
  text.split("\n").forEach((line, index) => {
    const at = `${file}:${index + 1}`;
    if (UNFINISHED.test(line)) found.push({ rule: "unfinished", at, what: line.trim() });
    if (SOMEBODYS_PATH.test(line)) found.push({ rule: "path", at, what: line.trim() });
    if (!printing && DEBUG.test(line)) found.push({ rule: "debug", at, what: line.trim() });
    if (file.startsWith("test/") && ONLY.test(line)) found.push({ rule: "only", at, what: line.trim() });
  });
  const lines = text.split("\n").length;
  if (isCode(file) && lines > LINES_MAX) found.push({ rule: "length", at: file, what: `${lines} lines` });
  return found;
}

function importProblems(file, text) {
  return importsOf(file, text)
    .map((target) => importProblem(file, target))
    .filter((what) => what !== undefined)
    .map((what) => ({ rule: "import", at: file, what }));
}

/** Files of src/ that nothing reachable from an entry, a test, a benchmark or a script imports. */
function unusedFiles(files) {
  const reached = new Set();
  const visit = (file) => {
    if (reached.has(file) || !files.has(file)) return;
    reached.add(file);
    for (const target of importsOf(file, files.get(file))) visit(target);
  };
  for (const file of files.keys()) if (ENTRIES.includes(file) || /^(test|bench|scripts)\//.test(file)) visit(file);
  return [...files.keys()]
    .filter((file) => isSource(file) && !reached.has(file))
    .map((file) => ({ rule: "unused-file", at: file, what: "nothing imports it" }));
}

/** Exports of src/ whose name stands nowhere else, not even in their own file. Cheap, and blind to two things of one name. */
function unusedExports(files) {
  const count = new Map();
  for (const text of files.values()) {
    for (const word of text.match(/[A-Za-z_$][\w$]*/g) ?? []) count.set(word, (count.get(word) ?? 0) + 1);
  }
  return [...files]
    .filter(([file]) => isSource(file))
    .flatMap(([file, text]) => [...text.matchAll(EXPORT)].map(([, name]) => ({ file, name })))
    .filter(({ name }) => count.get(name) === 1)
    .map(({ file, name }) => ({ rule: "unused-export", at: file, what: `nobody names ${name}` }));
}

function problems(files) {
  const found = [];
  for (const [file, text] of files) {
    found.push(...lineProblems(file, text));
    if (isSource(file)) found.push(...importProblems(file, text));
  }
  const code = new Map([...files].filter(([file]) => isCode(file)));
  return [...found, ...unusedFiles(code), ...unusedExports(code)];
}

const FOLDERS = ["src", "test", "bench", "scripts", "docs", "native-notes", "systemd", ".ci"];
const TOP = ["README.md", "HACKING.md", "CHANGELOG.md"];

function projectFiles() {
  const files = new Map();
  const add = (file) => files.set(file, readFileSync(path.join(root, file), "utf8"));
  const exists = (file) => statSync(path.join(root, file), { throwIfNoEntry: false }) !== undefined;
  for (const folder of FOLDERS.filter(exists)) {
    for (const entry of readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(ts|mjs|c|md|service|json|ya?ml|1|8)$|^run$/.test(entry.name)) continue;
      add(path.relative(root, path.join(entry.parentPath ?? entry.path, entry.name)));
    }
  }
  for (const file of TOP.filter(exists)) add(file);
  return files;
}

/** One small project per rule, and the rule that must object to it. */
const CANARIES = [
  ["import", { "src/lib/a.ts": 'import { b } from "../fs/b.js";\n' }],
  ["import", { "src/protocol/nfs3/a.ts": 'import type {\n  B,\n} from "../../fs/namespace.js";\n' }],
  ["import", { "src/protocol/nfs3/a.ts": 'import { b } from "../mount3/b.js";\n' }],
  ["import", { "src/raid/a.ts": 'const b = await import("../lu/lu.js");\n' }],
  ["import", { "src/fs/a.ts": 'import { b } from "../../test/support/b.js";\n' }],
  ["import", { "src/elsewhere/a.ts": 'import { b } from "../lib/b.js";\n' }],
  ["unused-file", { "src/lib/a.ts": "const a = 1;\n", "src/main.ts": "" }],
  ["unused-export", { "src/main.ts": "export const forNobody = 1;\n" }],
  ["debug", { "src/lib/a.ts": '  console.log("here");\n' }],
  ["only", { "test/unit/a.test.ts": `test.${"only"}("x", () => {});\n` }],
  ["length", { "src/main.ts": "\n".repeat(LINES_MAX + 1) }],
  ["unfinished", { "docs/a.md": `${"TO"}DO: say more\n` }],
  ["path", { "docs/a.md": `see ${["", "home", "somebody", "notes"].join("/")}\n` }],
];
const CLEAN = {
  "src/main.ts": 'import { b } from "./control/b.js";\nb();\n',
  "src/control/b.ts": 'import type { FileSystem } from "../fs/vfs.js";\nexport function b(_: FileSystem) {}\n',
  "src/fs/vfs.ts": "export interface FileSystem {}\n",
  "src/cli/main.ts": 'console.log("usage");\n',
};

function checkCanaries() {
  for (const [rule, files] of CANARIES) {
    if (problems(new Map(Object.entries(files))).some((found) => found.rule === rule)) continue;
    throw new Error(`tidy: the rule "${rule}" does not catch its canary: ${JSON.stringify(files).slice(0, 200)}`);
  }
  const wrong = problems(new Map(Object.entries(CLEAN)));
  if (wrong.length > 0) throw new Error(`tidy: objects to a clean project: ${JSON.stringify(wrong)}`);
}

checkCanaries();
const files = projectFiles();
const found = problems(files);
for (const { rule, at, what } of found) console.error(`${at}: ${rule}: ${what}`);
console.log(`tidy: ${files.size} files, ${found.length} ${found.length === 1 ? "problem" : "problems"}`);
process.exit(found.length === 0 ? 0 : 1);
