import assert from "node:assert/strict";
import { test } from "node:test";
import { printable } from "../../../src/lib/printable.js";

test("printable: text stays, what would play with a terminal and what is no text is escaped", () => {
  assert.equal(printable(Buffer.from("grüße 字")), "grüße 字");
  assert.equal(printable(Buffer.from("a\x1b[2Jb\n")), "a\\x1b[2Jb\\x0a");
  assert.equal(printable(Buffer.from([0x61, 0xff, 0x0a])), "a\\xff\\x0a");
});
