import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { BLOCK_BYTES, GIB, KIB, MIB } from "../../../src/lib/units.js";
import { homeOf, LIST, planGeometry, RECORD, SUPERBLOCK, TABLE, tableBlocksOf } from "../../../src/pagestore/layout.js";

/** The project's folder, from .build/<name>/test/unit/pagestore or dist/test/unit/pagestore. */
function projectRoot(): string {
  let folder = import.meta.dirname;
  while (!fs.existsSync(path.join(folder, "package.json"))) folder = path.dirname(folder);
  return folder;
}

const SIZES: Readonly<Record<string, number>> = { u64: 8, u32: 4 };

/** Rows `| offset | type | field | … |` below the heading of a structure. */
function documented(heading: string): Map<string, { offset: number; size: number }> {
  const text = fs.readFileSync(path.join(projectRoot(), "docs/format/pagestore.md"), "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith(heading)) ?? "";
  const fields = new Map<string, { offset: number; size: number }>();
  for (const [, offset, type, field] of section.matchAll(/^\| *(\d+) *\| *(\S+) *\| *`(\w+)` *\|/gm)) {
    const size = SIZES[type ?? ""] ?? Number(/^\[(\d+)\]$/.exec(type ?? "")?.[1]);
    fields.set(field ?? "", { offset: Number(offset), size });
  }
  return fields;
}

for (const [heading, table] of Object.entries({
  Superblock: SUPERBLOCK,
  Record: RECORD,
  "List block": LIST,
  "Checksum table": TABLE,
})) {
  test(`layout: the document and the code agree on the ${heading.toLowerCase()}`, () => {
    const fields = documented(heading);
    const expected = Object.entries(table).filter(([name]) => name !== "end");
    assert.deepEqual(
      [...fields].map(([name, { offset }]) => [name, offset]).sort(),
      expected.map(([name, offset]) => [name, offset]).sort(),
    );
    let end = 0;
    for (const [name, { offset, size }] of [...fields].sort((a, b) => a[1].offset - b[1].offset)) {
      assert.equal(offset, end, `${name} begins where the field before it ends`);
      end = offset + size;
    }
    assert.equal(end, BLOCK_BYTES);
  });
}

test("layout: areas follow one another without overlap, at every size", () => {
  for (const luBytes of [1.5 * MIB, 4 * MIB, 100 * MIB, 3 * GIB + 12 * KIB, 5000 * GIB]) {
    const g = planGeometry(luBytes, Math.max(256 * KIB, Math.min(64 * MIB, luBytes / 4)));
    assert.ok(g.logStart >= 2 * BLOCK_BYTES);
    assert.equal(g.tableStart, g.logStart + g.logBytes);
    assert.equal(g.pagesStart, g.tableStart + tableBlocksOf(g.pageCapacity) * 2 * BLOCK_BYTES);
    const end = homeOf(g, g.pageCapacity) + BLOCK_BYTES;
    assert.ok(end <= luBytes);
    assert.ok(luBytes - end < 3 * BLOCK_BYTES, "no more than a table block pair is left over");
  }
});
