import { deepEqual, equal } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BITMAP } from "../../../src/raid/bitmap.js";
import { JOURNAL_ENTRY, JOURNAL_HEADER, JOURNAL_RECORD } from "../../../src/raid/journal-format.js";
import { LABEL, LU_ENTRY, MEMBER_ENTRY } from "../../../src/raid/label.js";
import { AREA_BYTES, LAYOUT } from "../../../src/raid/layout.js";

/** The tables of docs/format: under a heading with the constant's name, rows of | offset | field | … |. */
function tableOf(file: string, name: string): Record<string, number> {
  const text = readFileSync(`docs/format/${file}`, "utf8");
  const section = text.split(/^## /m).find((part) => part.split("\n")[0]?.includes(`\`${name}\``)) ?? "";
  const rows = [...section.matchAll(/^\| *(\d+) *\| *`?(\w+)`?/gm)];
  return Object.fromEntries(rows.map(([, offset, field]) => [field, Number(offset)]));
}

const TABLES: Array<[string, string, Readonly<Record<string, number>>]> = [
  ["layout.md", "LAYOUT", LAYOUT],
  ["label.md", "LABEL", LABEL],
  ["label.md", "MEMBER_ENTRY", MEMBER_ENTRY],
  ["label.md", "LU_ENTRY", LU_ENTRY],
  ["journal.md", "JOURNAL_HEADER", JOURNAL_HEADER],
  ["journal.md", "JOURNAL_RECORD", JOURNAL_RECORD],
  ["journal.md", "JOURNAL_ENTRY", JOURNAL_ENTRY],
  ["bitmap.md", "BITMAP", BITMAP],
];

for (const [file, name, table] of TABLES) {
  test(`format: docs/format/${file} has the offsets of ${name}`, () => deepEqual(tableOf(file, name), table));
}

test("format: areas of a member follow each other", () => {
  equal(LAYOUT.reserved, AREA_BYTES.label);
  equal(LAYOUT.bitmapSlot0, LAYOUT.reserved + AREA_BYTES.reserved);
  equal(LAYOUT.padding, LAYOUT.bitmapSlot0 + AREA_BYTES.bitmap);
});
