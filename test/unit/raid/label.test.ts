import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { MemoryDevice } from "../../../src/device/memory-device.js";
import { isStorageError } from "../../../src/lib/errors.js";
import { SeededRandom } from "../../../src/lib/prng.js";
import { MIB } from "../../../src/lib/units.js";
import { newUuid, sealChecksum } from "../../../src/raid/fields.js";
import {
  type DiskLabel,
  type GroupRecord,
  LABEL,
  LU_ENTRY,
  MEMBER_ENTRY,
  NO_SCRUB,
  NO_SHAPE,
} from "../../../src/raid/label.js";
import { decodeLabel, encodeLabel } from "../../../src/raid/label-codec.js";
import { initDisk, readLabel, wipeDisk, writeLabel } from "../../../src/raid/label-io.js";
import { LABEL_END_BYTES, planShape } from "../../../src/raid/layout.js";
import { LIVES_MAX, LOST_BLOCKS_MAX, LUS_MAX, MEMBERS_MAX, NODES_MAX, ROW_RUNS_MAX } from "../../../src/raid/limits.js";
import { NO_LINEAGE } from "../../../src/raid/lineage.js";

const SEED = Number(process.env.SEED ?? 99);
const random = new SeededRandom(SEED);
const SIZE = 100 * MIB;

function device(sizeBytes = SIZE): MemoryDevice {
  return new MemoryDevice({ name: "d", sizeBytes, random });
}

/** Whose label was being written when it left. */
const FORMER = {
  ...{ uuid: newUuid(random), number: 99 },
  labels: [
    { generation: 2 ** 40 - 2, sequence: 2 ** 33 - 3 },
    { generation: 2 ** 40 - 1, sequence: 2 ** 33 - 2 },
  ],
};

function fullLabel(): DiskLabel {
  const shape = planShape(30 * 1024 * MIB, 32, 64 * 1024, { rowBytes: MIB });
  const members = Array.from({ length: MEMBERS_MAX }, (_, i) => {
    const path = `/dev/disk/by-id/${"ü".repeat(90)}${i}`;
    const rest = { sizeBytes: 64 * 1024 * 1024 * MIB, path };
    const number = i + 1;
    if (i !== 7)
      return {
        uuid: newUuid(random),
        number,
        state: "online" as const,
        unbuiltBytes: 0,
        partedFrom: 0,
        former: null,
        ...rest,
      };
    return {
      uuid: newUuid(random),
      number,
      state: "rebuilding" as const,
      unbuiltBytes: 2 ** 34,
      partedFrom: 0,
      former: FORMER,
      ...rest,
    };
  });
  const lus = Array.from({ length: LUS_MAX }, (_, i) => ({
    ...{ number: i + 1, uuid: newUuid(random), name: `lu-${i}`, level: i % 2 === 0 ? (5 as const) : (1 as const) },
    ...(i === 0 ? { moving: { newWidth: 32, movedBytes: 31 * 65536 * 7 } } : {}),
    width: i === 0 ? 31 : 32,
    sizeBytes: MIB,
    runs: Array.from({ length: ROW_RUNS_MAX / LUS_MAX }, (_, r) => ({ first: 2 * (i * 64 + r), count: 1 })),
  }));
  const nodes = Array.from({ length: NODES_MAX }, (_, i) => `chn${i + 1}`);
  const group = { uuid: newUuid(random), name: "g".repeat(63), generation: 2 ** 40, ownerEpoch: 7, clean: true };
  return {
    ...{ uuid: members[31]!.uuid, number: 32, sequence: 2 ** 33, sizeBytes: SIZE, slot: 31 },
    group: {
      ...group,
      lineage: {
        wholeFrom: 2 ** 40 - 1,
        lives: Array.from({ length: LIVES_MAX }, (_, i) => ({ id: newUuid(random), generation: 2 ** 39 + i })),
      },
      shape,
      nodes,
      members,
      lus,
      lost: Array.from({ length: LOST_BLOCKS_MAX }, (_, i) => ({ lu: (i % LUS_MAX) + 1, block: 2 ** 40 + i })),
      scrub: { ...NO_SCRUB, everySeconds: 86400, state: "paused", heal: false, atBytes: 2 ** 33, found: 3, healed: 2 },
    },
  };
}

test("label: the largest group survives a round trip", () => {
  const label = fullLabel();
  const found = decodeLabel(encodeLabel(label));
  const cut = label.group!.members.map((member) => ({ ...member, path: member.path.slice(-1) }));
  deepEqual(
    {
      ...found,
      group: { ...found?.group, members: found?.group?.members.map((m) => ({ ...m, path: m.path.slice(-1) })) },
    },
    {
      ...label,
      group: { ...label.group, members: cut },
    },
  );
});

test("label: a group whose parity moves with every stripe has the zero that labels had before there were runs", () => {
  const { group, ...disk } = fullLabel();
  const slot = encodeLabel({ ...disk, group: { ...group!, shape: { ...group!.shape, parityRun: 1 } } });
  equal(slot.readUInt32LE(LABEL.parityRun), 0);
  equal(decodeLabel(slot)?.group?.shape.parityRun, 1);
  equal(encodeLabel(fullLabel()).readUInt32LE(LABEL.parityRun), 16);
});

/** As it is on the disk of a shared group: no rows, no LUs. */
function sharedLabel(memberCount: number): DiskLabel {
  const members = Array.from({ length: memberCount }, (_, i) => {
    const rest = { sizeBytes: SIZE, unbuiltBytes: 0, partedFrom: 0, former: null, path: `/srv/shared${i}.img` };
    return { uuid: newUuid(random), number: i + 1, state: "online" as const, ...rest };
  });
  const group = { uuid: newUuid(random), name: "shared", generation: 3, ownerEpoch: 9, clean: false, shared: true };
  const nothing = { shape: NO_SHAPE, lus: [], scrub: NO_SCRUB, lost: [], lineage: NO_LINEAGE };
  return {
    ...{ uuid: members[0]!.uuid, number: 1, sequence: 4, sizeBytes: SIZE, slot: 0 },
    group: { ...group, ...nothing, nodes: ["chn1", "chn5"], members },
  };
}

test("label: a shared group of one to four disks survives a round trip, and says that it is one", () => {
  for (const count of [1, 2, 4]) {
    const label = sharedLabel(count);
    const slot = encodeLabel(label);
    equal(slot.readUInt32LE(LABEL.flags), 4);
    deepEqual(decodeLabel(slot), label);
  }
  equal(decodeLabel(encodeLabel(fullLabel()))?.group?.shared, undefined);
});

test("label: a shared group has no rows, and flags that exclude each other are refused", () => {
  const changes: [number, number][] = [
    ...[LABEL.chunkBytes, LABEL.rowCount, LABEL.journalBytes, LABEL.luCount, LABEL.runCount].map(
      (at): [number, number] => [at, 1],
    ),
    ...[LABEL.parityRun, LABEL.scrubState, LABEL.lostCount, LABEL.lus, LABEL.lost].map((at): [number, number] => [
      at,
      1,
    ]),
    ...[5, 6, 7, 8].map((flags): [number, number] => [LABEL.flags, flags]),
    [LABEL.memberCount, 0],
    [LABEL.memberCount, 5],
    [LABEL.members + MEMBER_ENTRY.state, 2],
  ];
  for (const [at, value] of changes) {
    const bad = encodeLabel(sharedLabel(2));
    bad[at] = value;
    sealChecksum(bad, LABEL.checksum);
    equal(decodeLabel(bad), null, `byte ${at} is ${value}`);
  }
});

test(`label: no corrupted slot is taken for a label (seed ${SEED})`, () => {
  const slot = encodeLabel(fullLabel());
  for (let i = 0; i < 400; i++) {
    const bad = Buffer.from(slot);
    const at = random.below(bad.length);
    bad[at]! ^= 1 << random.below(8);
    equal(decodeLabel(bad), null, `bit flipped in byte ${at}`);
    equal(decodeLabel(slot.subarray(0, random.below(slot.length))), null);
  }
});

test("label: bytes that mean nothing are refused even with a right checksum", async () => {
  for (const at of [
    LABEL.parityRun + 1,
    LABEL.reserved,
    LABEL.tail,
    LABEL.end - 1,
    LABEL.scrubFlags + 1,
    LABEL.members + MEMBER_ENTRY.unbuiltBytes,
    LABEL.lus + LU_ENTRY.reserved,
  ]) {
    const bad = encodeLabel(fullLabel());
    bad[at] = 1;
    sealChecksum(bad, LABEL.checksum);
    equal(decodeLabel(bad), null, `byte ${at}`);
  }
});

test("label: a disk that is being replaced is remembered with one label or two, and not beside itself", () => {
  const { group, ...disk } = fullLabel();
  const withMembers = (members: GroupRecord["members"]) => encodeLabel({ ...disk, group: { ...group!, members } });
  const one = { ...FORMER, labels: FORMER.labels.slice(1) };
  const members = group!.members.map((member) => (member.former === null ? member : { ...member, former: one }));
  deepEqual(decodeLabel(withMembers(members))?.group?.members[7]?.former, one);
  const none = withMembers(members.map((member) => ({ ...member, former: null })));
  equal(decodeLabel(none)?.group?.members[7]?.former, null);
  const full = encodeLabel(fullLabel());
  const bytes: [number, Buffer][] = [
    [LABEL.formerUuid, Buffer.alloc(16)],
    [LABEL.formerLabels + 8, Buffer.alloc(8)],
    [LABEL.formerLabels + 24, Buffer.alloc(8)],
    [LABEL.formerUuid, full.subarray(LABEL.members, LABEL.members + 16)],
    [LABEL.members + 7 * MEMBER_ENTRY.end + MEMBER_ENTRY.state, Buffer.from([3])],
    [LABEL.members + 8 * MEMBER_ENTRY.end + MEMBER_ENTRY.state, Buffer.from([5])],
  ];
  for (const [at, content] of bytes) {
    const bad = Buffer.from(full);
    bad.set(content, at);
    sealChecksum(bad, LABEL.checksum);
    equal(decodeLabel(bad), null, `byte ${at}`);
  }
});

test("label: a disk without one reads as null, a wiped one too", async () => {
  const disk = device();
  equal(await readLabel(disk), null);
  await initDisk(disk, { number: 3, random });
  equal((await readLabel(disk))?.number, 3);
  await wipeDisk(disk);
  equal(await readLabel(disk), null);
});

test("label: too small a disk is refused", async () => {
  await rejects(initDisk(device(16 * MIB), { number: 1 }), (error) => isStorageError(error, "ENOSPC"));
});

test("label: damage at one end is survived and reported", async () => {
  for (const [end, at] of [
    ["start", 0],
    ["end", SIZE - LABEL_END_BYTES],
  ] as const) {
    const disk = device();
    await initDisk(disk, { number: 5, random });
    disk.poke(Buffer.alloc(LABEL_END_BYTES, 0xaa), at);
    const label = await readLabel(disk);
    deepEqual([label?.number, label?.badEnd], [5, end]);
  }
});

test("label: an unreadable end is survived and reported", async () => {
  const disk = device();
  await initDisk(disk, { number: 5, random });
  disk.failRange({ position: 0, byteCount: 4096, on: "read" });
  equal((await readLabel(disk))?.badEnd, "start");
});

test("label: slots of ours that are all damaged are an error, not an empty disk", async () => {
  const disk = device();
  await initDisk(disk, { number: 5, random });
  for (const at of [0, LABEL.end, SIZE - LABEL_END_BYTES, SIZE - LABEL.end]) disk.poke(Buffer.alloc(8, 1), at + 100);
  await rejects(readLabel(disk), (error) => isStorageError(error, "EIO"));
});

test("label: the newest of the slots counts, whichever end a crash tore", async () => {
  const disk = device();
  const { uuid } = await initDisk(disk, { number: 1, random });
  const base = { uuid, number: 1, sizeBytes: SIZE, slot: 0 };
  for (let sequence = 2; sequence < 6; sequence++) {
    await writeLabel(disk, { ...base, number: sequence, sequence });
    equal((await readLabel(disk))?.number, sequence);
  }
  disk.poke(Buffer.alloc(512, 9), LABEL.end + 1024);
  equal((await readLabel(disk))?.number, 5);
});
