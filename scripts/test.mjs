// Runs the test suites with node's test runner: `node scripts/test.mjs [suite…]`, by default all of them, from dist/test/<suite>.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const out = process.env.STRIPEWARD_OUT ?? "dist";
const suites =
  process.argv.length > 2 ? process.argv.slice(2) : ["unit", "contract", "model", "fuzz", "process", "interop"];

function testFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(".test.js"))
    .map((name) => path.join(folder, name))
    .sort();
}

const files = suites.flatMap((suite) => testFiles(path.join(root, out, "test", suite)));
if (files.length === 0) {
  console.error("no tests found: run `npm run build` first");
  process.exit(1);
}
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-concurrency=2", ...files], {
  cwd: root,
  stdio: "inherit",
});
process.exit(status ?? 1);
