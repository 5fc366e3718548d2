import { deepEqual, equal, throws } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  decodePartitionHeader,
  encodePartitionHeader,
  type PartitionHeader,
} from "../../../../src/ha/shared/header.js";
import {
  NODE_NAMES,
  PARTITION,
  PARTITION_HEADER,
  partitionBytesFor,
  partitionIndex,
  partitionStart,
} from "../../../../src/ha/shared/layout.js";
import { standingOf } from "../../../../src/ha/shared/standing.js";
import { isStorageError } from "../../../../src/lib/errors.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { GIB, MIB } from "../../../../src/lib/units.js";
import { newUuid, sealChecksum } from "../../../../src/raid/fields.js";
import { LABEL_END_BYTES, LAYOUT } from "../../../../src/raid/layout.js";

const SEED = Number(process.env.SEED ?? 5);
const random = new SeededRandom(SEED);
const groupUuid = newUuid(random);

function header(fields: Partial<PartitionHeader> = {}): PartitionHeader {
  return {
    ...{
      groupUuid,
      partition: 0,
      copy: 0,
      sequence: 7,
      generation: 3,
      epoch: 2,
      currentCopies: 3,
      closed: false,
      equal: false,
    },
    ...{ writer: "chn1", ...fields },
  };
}

test("shared format: docs/format/shared.md has the offsets", () => {
  const text = readFileSync("docs/format/shared.md", "utf8");
  for (const [name, table] of [
    ["PARTITION", PARTITION],
    ["PARTITION_HEADER", PARTITION_HEADER],
  ] as const) {
    const section = text.split(/^## /m).find((part) => part.split("\n")[0]?.includes(`\`${name}\``)) ?? "";
    const rows = [...section.matchAll(/^\| *(\d+) *\| *`?(\w+)`?/gm)];
    deepEqual(Object.fromEntries(rows.map(([, offset, field]) => [field, Number(offset)])), table);
  }
});

test("shared layout: eight partitions stand between the reserved area and the labels, whatever the size", () => {
  for (const sizeBytes of [32 * MIB, 33 * MIB + 4096, 100 * MIB, GIB, 4096 * GIB]) {
    const bytes = partitionBytesFor(sizeBytes);
    equal(bytes % 65536, 0);
    equal(partitionStart(0, bytes), LAYOUT.journal);
    const end = partitionStart(7, bytes) + bytes;
    equal(end <= sizeBytes - LABEL_END_BYTES, true, `${sizeBytes}`);
  }
  equal(partitionBytesFor(4096 * GIB), 64 * MIB);
  throws(
    () => partitionBytesFor(8 * MIB),
    (error) => isStorageError(error, "ENOSPC"),
  );
});

test("shared layout: nodes are chn1 to chn8", () => {
  deepEqual(NODE_NAMES.map(partitionIndex), [0, 1, 2, 3, 4, 5, 6, 7]);
  throws(
    () => partitionIndex("chn9"),
    (error) => isStorageError(error, "EINVAL"),
  );
});

test(`partition header: survives a round trip, and no damaged one is taken for one (seed ${SEED})`, () => {
  const full = header({
    partition: 7,
    copy: 3,
    sequence: 2 ** 40,
    generation: 2 ** 41,
    epoch: 2 ** 42,
    closed: true,
    equal: true,
  });
  const block = encodePartitionHeader(full);
  deepEqual(decodePartitionHeader(block), full);
  for (let i = 0; i < 300; i++) {
    const bad = Buffer.from(block);
    bad[random.below(bad.length)]! ^= 1 << random.below(8);
    equal(decodePartitionHeader(bad), null);
  }
  for (const at of [PARTITION_HEADER.reserved, PARTITION_HEADER.flags + 1, PARTITION_HEADER.node + 1]) {
    const bad = Buffer.from(block);
    bad[at] = 1;
    sealChecksum(bad, PARTITION_HEADER.checksum);
    equal(decodePartitionHeader(bad), null, `byte ${at}`);
  }
});

test("standing: a copy with a lower generation, or that the newest does not name, is never read", () => {
  const a = header({ copy: 0, generation: 4, currentCopies: 0b001 });
  const b = header({ copy: 1, generation: 3, currentCopies: 0b011 });
  deepEqual(standingOf([a, b]).current, [0]);
  deepEqual(standingOf([b, a].toReversed()).current, [0]);
  // Brought up to date, and the power failed before its own header said so.
  const joined = header({ copy: 0, generation: 5, currentCopies: 0b011 });
  const disowned = header({ copy: 1, generation: 4, currentCopies: 0b001, sequence: 99 });
  deepEqual(standingOf([joined, disowned]).current, [0]);
  // One that is being copied carries the generation of the others and a higher sequence.
  deepEqual(standingOf([a, header({ copy: 1, generation: 4, currentCopies: 0b001, sequence: 99 })]).current, [0]);
  deepEqual(standingOf([null, header({ copy: 1, currentCopies: 0b001 })]).current, []);
  deepEqual(standingOf([null, null]), { newest: null, current: [], split: null, sequence: 0, generation: 0, epoch: 0 });
});

test("standing: the epoch counts before the generation", () => {
  const old = header({ copy: 0, epoch: 2, generation: 900, currentCopies: 0b001 });
  const taken = header({ copy: 1, epoch: 3, generation: 5, currentCopies: 0b011 });
  deepEqual(standingOf([old, taken]).current, [1]);
  equal(standingOf([old, taken]).epoch, 3);
});

test("standing: two copies that went on without each other are noticed, one that was left behind is not one of them", () => {
  const a = header({ copy: 0, generation: 6, currentCopies: 0b001 });
  deepEqual(standingOf([a, header({ copy: 1, generation: 5, currentCopies: 0b010 })]).split, [0, 1]);
  equal(standingOf([a, header({ copy: 1, generation: 5, currentCopies: 0b011 })]).split, null);
  equal(standingOf([a, header({ copy: 1, generation: 5, currentCopies: 0b001 })]).split, null);
});
