import assert from "node:assert/strict";
import { test } from "node:test";
import { printable, printableJson, printableText } from "../../../src/lib/printable.js";

/** One of each kind that must never reach a terminal, by code point. */
const HOSTILE = [
  0x00, 0x07, 0x0a, 0x0d, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0x9d, 0x061c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e,
  0x2066, 0x2069, 0xfeff, 0xfff9, 0xe0001, 0xe0041,
];

test("printable: text stays, what would play with a terminal and what is no text is escaped", () => {
  assert.equal(printable(Buffer.from("grüße 字 🐧")), "grüße 字 🐧");
  assert.equal(printable(Buffer.from("a\x1b[2Jb\n")), "a\\x1b[2Jb\\x0a");
  assert.equal(printable(Buffer.from([0x61, 0xff, 0x0a])), "a\\xff\\x0a");
  assert.equal(printable(Buffer.from("\u202etxt.exe")), "\\u{202e}txt.exe");
});

test("printable: nothing hostile passes, alone or in the middle of a name", () => {
  for (const code of HOSTILE) {
    const character = String.fromCodePoint(code);
    const shown = printableText(`a${character}b`);
    assert.ok(!shown.includes(character), `U+${code.toString(16)} passes`);
    assert.match(shown, /^a\\(x[0-9a-f]{2}|u\{[0-9a-f]+\})b$/);
    assert.equal(printable(Buffer.from(`a${character}b`)), shown);
  }
  assert.equal(printableText("half \ud800 a pair"), "half \\u{d800} a pair");
});

test("printable: a JSON document keeps its value and loses what a terminal would obey", () => {
  const value = { name: HOSTILE.map((code) => String.fromCodePoint(code)).join("x"), more: ["\ud800", "字"] };
  const json = printableJson(JSON.stringify(value, null, 2));
  for (const code of HOSTILE.filter((one) => one !== 0x0a)) assert.ok(!json.includes(String.fromCodePoint(code)));
  assert.deepEqual(JSON.parse(json), value);
  assert.equal(json.split("\n").length, 7, "the line ends of the layout stay");
});
