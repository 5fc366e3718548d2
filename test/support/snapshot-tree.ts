import { GROUP_BLOCKS } from "../../src/fs/contents/limits.js";
import { GROUP_BYTES, GROUPS_START, type Snapshot, type SnapshotEntry } from "../../src/fs/snapshot/snapshot.js";
import { FileKind, type FileSystem } from "../../src/fs/vfs.js";
import { BLOCK_BYTES } from "../../src/lib/units.js";
import { ROOT } from "./namespace-fixture.js";

/** Path to what is there: bytes of a file, target of a symlink, "dir". */
export type Tree = Map<string, string>;

const PAGE = 3;

/** All that a snapshot holds, through its pages. */
export async function treeOf(snapshot: Snapshot): Promise<Tree> {
  const files = await filesOf(snapshot);
  const entries: SnapshotEntry[] = [];
  for (let after: Pick<SnapshotEntry, "parent" | "name"> = { parent: 0, name: Buffer.alloc(0) }; ; ) {
    const page = snapshot.entries(after, PAGE);
    entries.push(...page);
    if (page.length < PAGE) break;
    after = page.at(-1)!;
  }
  const tree: Tree = new Map();
  const walk = (parent: number, path: string): void => {
    for (const entry of entries.filter((one) => one.parent === parent)) {
      const place = `${path}/${entry.name.toString("latin1")}`;
      tree.set(place, files.get(entry.ino) ?? "nothing");
      walk(entry.ino, place);
    }
  };
  walk(1, "");
  return tree;
}

async function filesOf(snapshot: Snapshot): Promise<Map<number, string>> {
  const contents = new Map<number, Buffer>();
  const found = new Map<number, string>();
  for (let after = 0; ; ) {
    const rows = snapshot.inodes(after, PAGE);
    for (const row of rows) {
      if (row[2] === FileKind.file) contents.set(row[0], Buffer.alloc(row[7]));
      else
        found.set(
          row[0],
          row[21] === null ? (row[2] === FileKind.directory ? "dir" : `kind ${row[2]}`) : `-> ${row[21].toString()}`,
        );
    }
    if (rows.length < PAGE) break;
    after = rows.at(-1)![0];
  }
  const target = Buffer.alloc(GROUP_BYTES);
  for (let page = snapshot.groups(GROUPS_START, PAGE); ; page = snapshot.groups(page.next, PAGE)) {
    for (const group of page.groups) {
      const slots = await snapshot.read(group, target);
      slots.forEach((slot, i) => {
        const block = target.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
        block.copy(contents.get(group.ino)!, (group.group * GROUP_BLOCKS + slot) * BLOCK_BYTES);
      });
    }
    if (page.next === null) break;
  }
  for (const [ino, bytes] of contents) found.set(ino, bytes.toString("latin1"));
  return found;
}

/** The same of a file system that is served. */
export async function liveTree(fs: FileSystem): Promise<Tree> {
  const tree: Tree = new Map();
  const walk = async (directory: typeof fs.root, path: string): Promise<void> => {
    for (let cookie = 0, ended = false; !ended; ) {
      const page = fs.readdir(ROOT, directory, cookie, 100, false);
      for (const { name, cookie: at } of page.entries) {
        cookie = at;
        const text = name.toString("latin1");
        if (text === "." || text === "..") continue;
        const child = fs.lookup(ROOT, directory, name);
        const place = `${path}/${text}`;
        if (child.kind === FileKind.directory) {
          tree.set(place, "dir");
          await walk(child, place);
        } else if (child.kind === FileKind.file) {
          const bytes = Buffer.alloc(child.sizeBytes);
          for (let done = 0; done < bytes.length; ) {
            done += (await fs.read(ROOT, child, done, bytes.subarray(done, done + 65536))).count;
          }
          tree.set(place, bytes.toString("latin1"));
        } else if (child.kind !== FileKind.symlink) tree.set(place, `kind ${child.kind}`);
        else tree.set(place, `-> ${fs.readlink(ROOT, child).target.toString()}`);
      }
      ended = page.endOfDirectory;
    }
  };
  await walk(fs.root, "");
  return tree;
}
