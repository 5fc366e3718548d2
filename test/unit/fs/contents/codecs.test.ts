import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Touch } from "../../../../src/fs/contents/commit-work.js";
import {
  decodeExtentMap,
  EXTENT_MAP_BYTES_MAX,
  encodeExtentMap,
  newBlockMap,
} from "../../../../src/fs/contents/extent-map.js";
import { ReadEpochs } from "../../../../src/fs/contents/read-epochs.js";
import { RunList } from "../../../../src/fs/contents/run-list.js";
import {
  decodeSidecar,
  encodeIntent,
  encodeTouches,
  INTENT_BYTES_MAX,
  SIDECAR_HEAD,
  SIDECAR_INTENT,
  SIDECAR_TOUCH,
} from "../../../../src/fs/contents/sidecar.js";
import { SidecarRecovery } from "../../../../src/fs/contents/sidecar-recovery.js";
import { isStorageError } from "../../../../src/lib/errors.js";
import { SeededRandom } from "../../../../src/lib/prng.js";
import { bytes } from "./fixture.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

test(`extent map: what is encoded is decoded, SEED=${SEED}`, () => {
  const random = new SeededRandom(SEED);
  const scratch = Buffer.alloc(EXTENT_MAP_BYTES_MAX, 0xff);
  for (let round = 0; round < 200; round++) {
    const map = newBlockMap();
    for (let slot = 0; slot < 64; slot++) {
      if (random.below(3) === 0) continue;
      map.addresses[slot] = random.next() * 65_536 + random.below(65_536);
      map.crcs[slot] = random.next();
      if (random.below(4) === 0) map.validBytes[slot] = 1 + random.below(4095);
    }
    const decoded = newBlockMap();
    decoded.addresses.fill(77);
    decodeExtentMap(encodeExtentMap(map, scratch)!, decoded);
    assert.deepEqual(decoded, map);
  }
  assert.equal(encodeExtentMap(newBlockMap(), scratch), null);
});

test("extent map: damaged rows are refused", () => {
  const map = newBlockMap();
  map.addresses[3] = 5;
  const row = encodeExtentMap(map, Buffer.alloc(EXTENT_MAP_BYTES_MAX))!;
  const refused = (bad: Buffer) =>
    assert.throws(
      () => decodeExtentMap(bad, newBlockMap()),
      (error) => isStorageError(error, "EIO"),
    );
  for (const bad of [Buffer.alloc(0), row.subarray(0, 10), row.subarray(0, row.length - 1), Buffer.alloc(16)])
    refused(bad);
});

function sidecar(touches: readonly Touch[], data: readonly Buffer[]): Buffer {
  const target = Buffer.alloc(data.length * INTENT_BYTES_MAX);
  let at = 0;
  for (const [i, one] of data.entries()) at = encodeIntent(target, at, 2 ** 40 + i, 7, one);
  return Buffer.concat([encodeTouches(touches, data.length), target.subarray(0, at)]);
}

test("sidecar: touches apply before the intents of the same record", () => {
  const recovery = new SidecarRecovery();
  recovery.replay(1, sidecar([], [bytes(4096, 1), bytes(10, 2)]));
  const ino = 2 ** 40;
  recovery.replay(2, sidecar([{ ino, firstBlock: 7, blockCount: 1, validBytes: -1 }], [bytes(100, 3)]));
  assert.deepEqual(recovery.files.get(ino)?.get(7), { seq: 2, data: bytes(100, 3) });
  assert.deepEqual(recovery.files.get(ino + 1)?.get(7), { seq: 1, data: bytes(10, 2) });
  recovery.replay(3, sidecar([{ ino, firstBlock: 7, blockCount: 1, validBytes: 50 }], []));
  assert.deepEqual(recovery.files.get(ino)?.get(7)?.data.subarray(50), Buffer.alloc(50));
  const everything = { ino, firstBlock: 0, blockCount: Number.POSITIVE_INFINITY, validBytes: -1 };
  recovery.replay(4, sidecar([everything], []));
  assert.equal(recovery.files.has(ino), false);
});

test("sidecar: every damaged byte is noticed, and truncation is", () => {
  const touch = { ino: 3, firstBlock: 1, blockCount: 2, validBytes: -1 };
  const good = sidecar([touch], [bytes(64, 4)]);
  const reader = { touch: () => {}, intent: () => {} };
  decodeSidecar(good, reader);
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 0x10;
    assert.throws(
      () => decodeSidecar(bad, reader),
      (error) => isStorageError(error, "EIO"),
      `byte ${at}`,
    );
    assert.throws(
      () => decodeSidecar(good.subarray(0, at), reader),
      (error) => isStorageError(error, "EIO"),
    );
  }
});

test("sidecar: the offsets are those of docs/format/contents.md", () => {
  const text = readFileSync("docs/format/contents.md", "utf8");
  const rows = [...text.split("## Sidecar")[1]!.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]));
  const offsets = (table: Record<string, number>) => Object.values(table);
  const wanted = [
    ...offsets(SIDECAR_HEAD).slice(0, -1),
    ...offsets(SIDECAR_TOUCH).slice(0, -1),
    ...offsets(SIDECAR_INTENT),
  ];
  assert.deepEqual(rows, wanted);
});

test("read epochs: freed blocks wait for the reads that began before, and for no later one", () => {
  const released: number[] = [];
  const epochs = new ReadEpochs((freed) => released.push(...freed.starts));
  const freed = (block: number) => {
    const list = new RunList();
    list.add(block);
    return list;
  };
  const first = epochs.enter();
  epochs.retire(freed(1));
  const second = epochs.enter();
  epochs.retire(freed(2));
  epochs.leave(second);
  assert.deepEqual(released, []);
  epochs.leave(first);
  assert.deepEqual(released, [1, 2]);
  epochs.retire(freed(3));
  assert.deepEqual(released, [1, 2, 3]);
  assert.equal(epochs.waitingBlocks, 0);
});
