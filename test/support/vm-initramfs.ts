import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** One entry of an initramfs. */
export interface InitramfsFile {
  readonly name: string;
  /** File type and permission bits, as in stat(2). */
  readonly mode: number;
  readonly data?: Buffer;
  readonly rdev?: { readonly major: number; readonly minor: number };
}

const hex = (value: number) => value.toString(16).padStart(8, "0").toUpperCase();
const padding = (length: number) => Buffer.alloc((4 - (length % 4)) % 4);

function cpioEntry(file: InitramfsFile, ino: number): Buffer[] {
  const name = Buffer.from(`${file.name}\0`);
  const data = file.data ?? Buffer.alloc(0);
  const { major = 0, minor = 0 } = file.rdev ?? {};
  // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, device, device of the node, c_namesize, c_check
  const fields = [ino, file.mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
  const head = Buffer.from(`070701${fields.map(hex).join("")}`);
  return [head, name, padding(head.length + name.length), data, padding(data.length)];
}

/** The "newc" archive that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst). Writing it here needs no cpio and no root. */
export function cpioArchive(files: readonly InitramfsFile[]): Buffer {
  const end: InitramfsFile = { name: "TRAILER!!!", mode: 0 };
  return Buffer.concat([...files, end].flatMap((file, index) => cpioEntry(file, index + 1)));
}

/** Module names as in `depends=`: no folder, no suffix, "_" for "-". */
function moduleName(file: string): string {
  return path.basename(file).replace(/\.ko$/, "").replaceAll("-", "_");
}

/**
 * Loads modules with what they depend on, out of an unpacked kernel package. Such a package has no modules.dep (depmod writes it
 * when a kernel is installed), so that dependencies are read from each module's .modinfo section.
 */
export class KernelModules {
  readonly #files = new Map<string, string>();

  constructor(folder: string) {
    for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      if (file.endsWith(".ko")) this.#files.set(moduleName(file), path.join(folder, file));
    }
    if (this.#files.size === 0) throw new Error(`no kernel modules (*.ko) under ${folder}`);
  }

  /** In the order in which insmod must see them. A name that is no module is taken to be built in. */
  withDependencies(wanted: readonly string[]): { name: string; data: Buffer }[] {
    const out = new Map<string, Buffer>();
    for (const name of wanted) this.#add(name, out);
    return [...out].map(([name, data]) => ({ name, data }));
  }

  #add(name: string, out: Map<string, Buffer>): void {
    const file = this.#files.get(name);
    if (file === undefined || out.has(name)) return;
    const data = readFileSync(file);
    for (const needed of dependencies(data)) this.#add(needed, out);
    out.set(name, data);
  }
}

function dependencies(module: Buffer): string[] {
  const start = module.indexOf("\0depends=");
  if (start < 0) return [];
  const from = start + "\0depends=".length;
  const text = module.toString("latin1", from, module.indexOf(0, from));
  return text.split(",").filter((name) => name !== "");
}
