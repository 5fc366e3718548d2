// Runs the test suites with node's test runner: `node scripts/test.mjs [suite…] [--only TEXT]`, by default all of them, from
// dist/test/<suite>. What was left out is said at the start and at the end, so that a pass is never taken for more than it is.
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { complain, ensurePackages } from "./packages.mjs";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const out = process.env.STRIPEWARD_OUT ?? "dist";

/** A suite that starts daemons has the machine to itself; the others share it by twos. The time is for one file. */
const SUITES = {
  unit: { concurrency: 2, minutes: 2 },
  contract: { concurrency: 2, minutes: 2 },
  model: { concurrency: 2, minutes: 5 },
  fuzz: { concurrency: 2, minutes: 5 },
  // Its files use every CPU by themselves, or are short.
  sim: { concurrency: 1, minutes: 12 },
  process: { concurrency: 1, minutes: 8, packages: true },
  interop: { concurrency: 1, minutes: 14, packages: true },
};

function testFiles(suite) {
  const folder = path.join(root, out, "test", suite);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(".test.js"))
    .map((name) => path.join(folder, name))
    .sort();
}

function usage(what) {
  console.error(`test: ${what}\nusage: node scripts/test.mjs [${Object.keys(SUITES).join("|")}]…`);
  process.exit(2);
}

function chosenSuites() {
  const suites = process.argv.slice(2);
  const unknown = suites.find((suite) => SUITES[suite] === undefined);
  if (unknown !== undefined) usage(`no suite is named ${unknown}`);
  return suites.length > 0 ? suites : Object.keys(SUITES);
}

/** Counts single tests, not the suites and files around them. */
class Tally {
  passed = 0;
  failed = [];
  skipped = [];

  watch(events) {
    events.on("test:pass", ({ name, skip, details, file }) => {
      if (skip !== undefined) this.skipped.push({ name, why: skip === true ? "" : skip, file });
      else if (details?.type !== "suite") this.passed++;
    });
    events.on("test:fail", ({ name, file, todo, details }) => {
      if (todo === undefined) this.failed.push({ name, file, why: whyOf(details?.error) });
    });
  }
}

const WHY_LINES_MAX = 12;

/** What the test says went wrong, so that the end of a long run is enough to know it. */
function whyOf(error) {
  const { message = "" } = error?.cause ?? error ?? {};
  return String(message).trimEnd().split("\n").slice(0, WHY_LINES_MAX);
}

async function runSuite(suite, files, tally) {
  const { concurrency, minutes } = SUITES[suite];
  const events = run({ files, concurrency, timeout: minutes * 60_000 });
  tally.watch(events);
  const reported = events.compose(new spec());
  reported.pipe(process.stdout, { end: false });
  await finished(reported);
}

function relative(file) {
  return file === undefined ? "" : file.replace(/^.*\/test\//, "").replace(/\.[jt]s$/, "");
}

function summary(tally, seconds, complaint) {
  const lines = [
    `tests: ${tally.passed} passed, ${tally.failed.length} failed, ${tally.skipped.length} skipped, ${seconds} s`,
  ];
  for (const { name, why, file } of tally.skipped)
    lines.push(`  skipped: ${relative(file)}: ${name}${why ? ` (${why})` : ""}`);
  for (const { name, file, why } of tally.failed) {
    lines.push(`  FAILED: ${relative(file)}: ${name}`);
    for (const line of why) lines.push(`      ${line}`);
  }
  return `${lines.join("\n")}\n${complaint}`;
}

async function main() {
  const suites = chosenSuites();
  const found = suites.map((suite) => ({ suite, files: testFiles(suite) })).filter(({ files }) => files.length > 0);
  if (found.length === 0) {
    console.error("test: no tests found: run `npm run build` first");
    process.exit(1);
  }
  const packages = found.some(({ suite }) => SUITES[suite].packages);
  const missing = packages ? ensurePackages(["test"], { say: (text) => console.log(`packages: ${text}`) }) : [];
  process.stdout.write(complain(missing));
  const start = Date.now();
  const tally = new Tally();
  for (const { suite, files } of found) {
    console.log(`\n== ${suite}: ${files.length} ${files.length === 1 ? "file" : "files"}`);
    await runSuite(suite, files, tally);
  }
  console.log(`\n${summary(tally, Math.round((Date.now() - start) / 1000), complain(missing))}`);
  process.exit(tally.failed.length === 0 ? 0 : 1);
}

// Compiled tests point at their sources; the runner's children inherit this.
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --enable-source-maps`.trim();
await main();
