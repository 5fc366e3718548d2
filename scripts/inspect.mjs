// Prints what is on a disk, or in a file handle, in readable form, through the parsers of the built code. It only reads, takes no
// lock, and works on a disk that a daemon serves (then what it shows may be a moment old).
//
//   node scripts/inspect.mjs DISK              labels of a disk (file, loop or block device), and page-store superblocks on it
//   node scripts/inspect.mjs --handle HEX      an NFS file handle, as a packet capture shows it
//   node scripts/inspect.mjs … --json          the same for programs
import { closeSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const built = path.join(root, process.env.STRIPEWARD_OUT ?? "dist", "src");

async function load(file) {
  try {
    return await import(pathToFileURL(path.join(built, file)));
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new Error(`cannot load ${file}: run \`npm run build\` first`);
  }
}

function reader(file) {
  const fd = openSync(file, "r");
  return {
    close: () => closeSync(fd),
    read(at, length) {
      const data = Buffer.alloc(length);
      const count = readSync(fd, data, 0, length, at);
      if (count !== length) throw new Error(`${file}: ${count} of ${length} bytes at ${at}: not that long`);
      return data;
    },
    /** A block device has no size in its inode: look for the last readable block. */
    sizeBytes() {
      let [low, high] = [0, 2 ** 50];
      const probe = Buffer.alloc(1);
      while (high - low > 1) {
        const middle = Math.floor((low + high) / 2);
        if (readSync(fd, probe, 0, 1, middle - 1) === 1) low = middle;
        else high = middle;
      }
      return low;
    },
  };
}

async function labels(disk) {
  const [{ LABEL }, { decodeLabel, hasLabelMagic }, { LABEL_END_BYTES, LAYOUT }] = await Promise.all([
    load("raid/label.js"),
    load("raid/label-codec.js"),
    load("raid/layout.js"),
  ]);
  const end = disk.sizeBytes() - LABEL_END_BYTES;
  const places = [
    ["start, slot 0", LAYOUT.labelSlot0],
    ["start, slot 1", LAYOUT.labelSlot1],
    ["end, slot 0", end],
    ["end, slot 1", end + LABEL.end],
  ];
  return places.map(([place, at]) => {
    const slot = disk.read(at, LABEL.end);
    const label = decodeLabel(slot);
    return { place, at, state: label ? "sound" : hasLabelMagic(slot) ? "DAMAGED" : "empty", label };
  });
}

/** The first rows of each LU: a page store begins its LU, on those members that hold a copy of its first chunk. */
async function superblocks(disk, label) {
  const [{ decodeSuperblock }, { rowsStart }] = await Promise.all([
    load("pagestore/superblock.js"),
    load("raid/layout.js"),
  ]);
  const { shape, lus } = label.group;
  const found = [];
  for (const lu of lus) {
    const [run] = lu.runs;
    if (run === undefined) continue;
    const start = rowsStart(shape) + run.first * shape.rowBytes;
    for (const slot of [0, 1]) {
      const superblock = decodeSuperblock(disk.read(start + slot * 4096, 4096));
      if (superblock !== null) found.push({ lu: lu.number ?? lu.name, slot, at: start + slot * 4096, superblock });
    }
  }
  return found;
}

/** Headers of the partitions on a disk of a shared group, both of each pair. */
async function partitions(disk, { group, slot }) {
  const [{ decodePartitionHeader }, { NODE_NAMES, PARTITION_HEADER, partitionBytesFor, partitionStart }] =
    await Promise.all([load("ha/shared/header.js"), load("ha/shared/layout.js")]);
  const partitionBytes = partitionBytesFor(Math.min(...group.members.map(({ sizeBytes }) => sizeBytes)));
  return NODE_NAMES.map((node, index) => {
    const start = partitionStart(index, partitionBytes);
    const headers = [0, 1].map((i) => {
      const at = start + i * PARTITION_HEADER.end;
      return { at, header: decodePartitionHeader(disk.read(at, PARTITION_HEADER.end)) };
    });
    return { node, slot, headers };
  });
}

async function inspectDisk(file) {
  const disk = reader(file);
  try {
    const slots = await labels(disk);
    const newest = slots
      .map(({ label }) => label)
      .filter((label) => label !== null)
      .sort((a, b) => b.sequence - a.sequence)[0];
    const stores = newest?.group === undefined ? [] : await superblocks(disk, newest);
    return {
      slots: slots.map(({ place, at, state, label }) => ({ place, at, state, sequence: label?.sequence })),
      label: newest ?? null,
      pageStores: stores,
      ...(newest?.group?.shared === true ? { partitions: await partitions(disk, newest) } : {}),
    };
  } finally {
    disk.close();
  }
}

async function inspectHandle(hex) {
  const { HANDLE } = await load("protocol/handle.js");
  const bytes = Buffer.from(hex.replace(/[\s:]|^0x/g, ""), "hex");
  if (bytes.length !== HANDLE.end) throw new Error(`a handle of ${bytes.length} bytes; ours have ${HANDLE.end}`);
  return {
    version: bytes.readUInt8(HANDLE.version),
    exportId: bytes.readUInt32BE(HANDLE.exportId),
    fileSystemId: bytes.readUInt32BE(HANDLE.fileSystemId),
    ino: bytes.readBigUInt64BE(HANDLE.ino),
    generation: bytes.readBigUInt64BE(HANDLE.generation),
    tag: bytes.subarray(HANDLE.tag),
  };
}

const plain = (_, value) => {
  if (typeof value === "bigint") return Number(value);
  return value?.type === "Buffer" ? Buffer.from(value.data).toString("hex") : value;
};

function lines(value, indent = "") {
  return Object.entries(value).flatMap(([key, item]) => {
    if (item === null || typeof item !== "object") return [`${indent}${key}: ${item}`];
    const nested = lines(item, `${indent}  `);
    return nested.length === 0 ? [`${indent}${key}: none`] : [`${indent}${key}:`, ...nested];
  });
}

async function main() {
  const args = process.argv.slice(2).filter((arg) => arg !== "--json");
  const handle = args[0] === "--handle" ? args[1] : undefined;
  if (args.length === 0 || (args[0].startsWith("--") && handle === undefined)) {
    console.error("usage: node scripts/inspect.mjs DISK | --handle HEX [--json]");
    process.exit(2);
  }
  const found = handle === undefined ? await inspectDisk(args[0]) : await inspectHandle(handle);
  const text = JSON.stringify(found, plain, 2);
  console.log(process.argv.includes("--json") ? text : lines(JSON.parse(text)).join("\n"));
}

main().catch((error) => {
  console.error(`inspect: ${error.message}`);
  process.exit(1);
});
