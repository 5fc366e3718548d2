// Builds everything into dist/: the parity kernel (AssemblyScript to WebAssembly), then TypeScript.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const bin = (name) => path.join(root, "node_modules", ".bin", name);

function run(name, args) {
  const { status, error } = spawnSync(bin(name), args, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

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
