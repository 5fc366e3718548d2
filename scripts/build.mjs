// Builds everything into dist/: the parity kernel (AssemblyScript to WebAssembly), then TypeScript. With --if-stale only when a source
// is newer than the last build: npm runs `prepare` again whenever `npx stripeward` puts the checkout into its cache.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bin = (name) => path.join(root, "node_modules", ".bin", name);

function run(name, args) {
  const { status, error } = spawnSync(bin(name), args, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

const SOURCES = ["src", "test", "bench", "scripts/build.mjs", "package.json", "tsconfig.json"];

/** Milliseconds since 1970 of the newest file below the sources. */
function newestSource() {
  const times = SOURCES.map((name) => path.join(root, name)).flatMap((place) =>
    statSync(place).isDirectory()
      ? readdirSync(place, { recursive: true }).map((name) => statSync(path.join(place, name)).mtimeMs)
      : [statSync(place).mtimeMs],
  );
  return Math.max(...times);
}

const stamp = path.join(root, "dist/.built");
if (process.argv.includes("--if-stale") && existsSync(stamp) && statSync(stamp).mtimeMs > newestSource())
  process.exit(0);

const kernelSource = "src/parity/kernel/assembly/index.ts";
const kernelTarget = process.env.STRIPEWARD_OUT ?? "dist";
mkdirSync(path.join(root, kernelTarget, "src/parity/kernel"), { recursive: true });
if (existsSync(path.join(root, kernelSource))) {
  run("asc", [
    kernelSource,
    ...["--outFile", `${kernelTarget}/src/parity/kernel/kernel.wasm`],
    ...["--runtime", "stub", "--importMemory", "--noExportMemory", "--enable", "simd", "-O3", "--noAssert"],
  ]);
}
run("tsc", ["-p", ".", ...(kernelTarget === "dist" ? [] : ["--outDir", kernelTarget])]);

if (kernelTarget === "dist") {
  chmodSync(path.join(root, "dist/src/cli/main.js"), 0o755);
  writeFileSync(stamp, `${new Date().toISOString()}\n`);
}
