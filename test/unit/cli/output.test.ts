import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { diskNumber, diskNumbers, Output } from "../../../src/cli/output.js";

function capture(json: boolean, terminal: boolean, use: (out: Output) => void): string {
  const stream = new PassThrough();
  use(new Output(json, stream, terminal));
  return String(stream.read() ?? "");
}

test("output: plain columns without a terminal", () => {
  const text = capture(false, false, (out) =>
    out.table(
      ["DISK", "VOLUME"],
      [
        ["#001", "1 GiB"],
        ["–", "–"],
      ],
    ),
  );
  assert.equal(text, "DISK  VOLUME\n#001  1 GiB\n–     –\n");
});

test("output: framed on a terminal", () => {
  const text = capture(false, true, (out) => out.table(["DISK"], [["#001"]]));
  assert.match(text, /┌/);
  assert.match(text, /#001/);
});

test("output: --json is one document and nothing else", () => {
  const text = capture(true, false, (out) => out.result({ a: 1 }, () => out.line("for people")));
  assert.deepEqual(JSON.parse(text), { a: 1 });
});

test("output: disk numbers as on the drawings, runs shortened", () => {
  assert.equal(diskNumber(1), "#001");
  assert.equal(diskNumber(null), "–");
  assert.equal(diskNumbers([3, 1, 2]), "#001-#003");
  assert.equal(diskNumbers([1, 2]), "#001 #002");
  assert.equal(diskNumbers([1, 3, 4]), "#001 #003 #004");
  assert.equal(diskNumbers([]), "");
});

test("output: what outsiders have named reaches no terminal as it is, in no form", () => {
  const name = "\x1b[2J\x9b31m\u202etxt\u2028\nfake line";
  const shown = "\\x1b[2J\\x9b31m\\u{202e}txt\\u{2028}\\x0afake line";
  assert.equal(
    capture(false, false, (out) => out.line(name)),
    `${shown}\n`,
  );
  for (const terminal of [false, true]) {
    const table = capture(false, terminal, (out) => out.table(["NAME"], [[name]]));
    assert.ok(table.includes(shown));
    for (const bad of ["\x1b[2J", "\x9b", "\u202e", "\u2028", "\nfake"]) assert.ok(!table.includes(bad));
  }
  const json = capture(true, false, (out) => out.result({ name }, () => {}));
  assert.match(json, /^[ -~\n]*$/);
  assert.deepEqual(JSON.parse(json), { name });
});
