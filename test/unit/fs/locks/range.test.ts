import assert from "node:assert/strict";
import { test } from "node:test";
import { LAST_BYTE, type LockedRange, lengthOf, rangeOf, replace } from "../../../../src/fs/locks/range.js";

/** `0-9r` or `5-$w`: both ends, `$` is the end of the file, r shared, w exclusive. */
function parse(text: string): LockedRange {
  const [, first = "", last = "", kind] = /^(\d+)-(\d+|\$)([rw])$/.exec(text) ?? [];
  return { first: BigInt(first), last: last === "$" ? LAST_BYTE : BigInt(last), exclusive: kind === "w" };
}

function print({ first, last, exclusive }: LockedRange): string {
  return `${first}-${last === LAST_BYTE ? "$" : last}${exclusive ? "w" : "r"}`;
}

function after(own: string, change: string): string {
  const held = own === "" ? [] : own.split(" ").map(parse);
  const unlocking = change.endsWith("u");
  const wanted = parse(unlocking ? `${change.slice(0, -1)}r` : change);
  const { removed, added } = replace(held, wanted, unlocking ? null : wanted.exclusive);
  const left = [...held.filter((range) => !removed.includes(range)), ...added];
  return left
    .sort((a, b) => (a.first < b.first ? -1 : 1))
    .map(print)
    .join(" ");
}

test("lock ranges: offset and length of the wire, exact up to 2^64", () => {
  assert.deepEqual(rangeOf(5n, 10n), { first: 5n, last: 14n });
  assert.deepEqual(rangeOf(5n, 0n), { first: 5n, last: LAST_BYTE });
  assert.deepEqual(rangeOf(2n ** 63n - 1n, 1n), { first: 2n ** 63n - 1n, last: 2n ** 63n - 1n });
  assert.deepEqual(rangeOf(LAST_BYTE, 1n), { first: LAST_BYTE, last: LAST_BYTE });
  assert.equal(rangeOf(LAST_BYTE, 2n), null);
  assert.equal(rangeOf(2n, LAST_BYTE), null);
  assert.equal(lengthOf({ first: 5n, last: 14n }), 10n);
  assert.equal(lengthOf({ first: 5n, last: LAST_BYTE }), 0n);
});

test("lock ranges: merge, split, upgrade, downgrade, partial unlock", () => {
  const cases: [string, string, string][] = [
    ["", "0-9w", "0-9w"],
    ["0-9w", "0-9w", "0-9w"],
    ["0-9w", "10-19w", "0-19w"],
    ["10-19w", "0-9w", "0-19w"],
    ["0-9w", "11-19w", "0-9w 11-19w"],
    ["0-9w 20-29w", "10-19w", "0-29w"],
    ["0-9r", "10-19w", "0-9r 10-19w"],
    ["0-99r", "40-59w", "0-39r 40-59w 60-99r"],
    ["0-39r 40-59w 60-99r", "40-59r", "0-99r"],
    ["0-99w", "40-59u", "0-39w 60-99w"],
    ["0-99w", "0-9u", "10-99w"],
    ["0-99w", "90-200u", "0-89w"],
    ["0-9w 20-29r", "0-$u", ""],
    ["0-$w", "5-5u", "0-4w 6-$w"],
    ["0-4w 6-$w", "5-5w", "0-$w"],
    [
      "0-$r",
      "9007199254740993-9007199254740993w",
      "0-9007199254740992r 9007199254740993-9007199254740993w 9007199254740994-$r",
    ],
    ["", "5-9u", ""],
  ];
  for (const [own, change, expected] of cases) assert.equal(after(own, change), expected, `${own} then ${change}`);
});

test("lock ranges: what changes nothing removes and adds nothing", () => {
  const own = [parse("0-9w")];
  assert.deepEqual(replace(own, parse("0-9w"), true), { removed: [], added: [] });
  assert.deepEqual(replace(own, parse("3-5w"), true), { removed: [], added: [] });
  assert.deepEqual(replace(own, parse("20-29w"), null), { removed: [], added: [] });
});
