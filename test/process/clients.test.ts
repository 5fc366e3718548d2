/**
 * Clients that take without giving, against the real daemon: what they hold is bounded, and somebody else is served meanwhile. The address 127.0.0.66 is
 * admitted by no export; 127.0.0.2, 127.0.0.3 and 127.1.0.0/16 are.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { EventRow, StatusReport } from "../../src/control/types.js";
import { LIMITS } from "../../src/limits.js";
import { DEFAULT_LIMITS } from "../../src/protocol/limits.js";
import { encode, encodeCall, frame, MOUNT, NfsClient, Proc, writeU64 } from "../support/nfs-client.js";
import { Rig } from "../support/rig.js";

const MIB = 1024 ** 2;
const STRANGER = "127.0.0.66";
const BYSTANDER = "127.0.0.3";
const HOG = "127.0.0.2";

/** A share is looked at before a record takes its room. */
const RECORD_BYTES = DEFAULT_LIMITS.recordBytesMax;

/** Cache and 350 MiB. */
const RESIDENT_MAX = LIMITS.dataCacheBytesDefault + 350 * MIB;

interface Served {
  readonly rig: Rig;
  /** A file of 16 MiB that all may read and write. */
  readonly file: Buffer;
  readonly root: Buffer;
}

async function served(t: TestContext): Promise<Served> {
  const rig = await Rig.up({ disks: 5, diskSize: "512M" });
  t.after(() => rig.remove());
  await rig.ok(["export", "remove", "/data"]);
  for (const client of ["127.0.0.2/31", "127.1.0.0/16"])
    await rig.ok(["export", "add", "/data", "--client", client, "--insecure", "--squash", "none"]);
  const client = await NfsClient.connect(rig.port, "127.0.0.1", BYSTANDER);
  t.after(() => client.close());
  const { handle: root } = await client.mount("/data");
  const { handle: file } = await client.create(root, "f");
  assert.ok(file !== null);
  for (let i = 0; i < 16; i++) assert.equal((await client.write(file, i * MIB, randomBytes(MIB), 0)).status, 0);
  assert.equal((await client.commit(file)).status, 0);
  return { rig, file, root };
}

function resident(rig: Rig): { nowBytes: number; peakBytes: number } {
  const text = readFileSync(`/proc/${rig.pid}/status`, "utf8");
  const bytes = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(text)?.[1]) * 1024;
  return { nowBytes: bytes("VmRSS"), peakBytes: bytes("VmHWM") };
}

/** The peak counts from here on. */
function resetPeak(rig: Rig): void {
  writeFileSync(`/proc/${rig.pid}/clear_refs`, "5");
}

/** Somebody else is served all the time: a new connection, a small read and a large one. @returns the slowest of them */
async function bystander({ rig, file }: Served, rounds = 20): Promise<number> {
  let slowestMs = 0;
  for (let i = 0; i < rounds; i++) {
    const startedMs = performance.now();
    const client = await NfsClient.connect(rig.port, "127.0.0.1", BYSTANDER);
    assert.equal((await client.getattr(file)).status, 0);
    assert.equal((await client.read(file, 0, 4096)).count, 4096);
    assert.equal((await client.read(file, 0, 65536)).count, 65536);
    await client.close();
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    await sleep(20);
  }
  return slowestMs;
}

async function open(t: TestContext, rig: Rig, from: string): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port: rig.port, localAddress: from });
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
  return socket;
}

function opened(t: TestContext, rig: Rig, from: string, count: number): Promise<Socket[]> {
  return Promise.all(Array.from({ length: count }, () => open(t, rig, from)));
}

/** It never takes what comes. */
async function deaf(t: TestContext, rig: Rig, from: string): Promise<Socket> {
  const socket = await open(t, rig, from);
  return socket.pause();
}

async function status({ rig }: Served): Promise<StatusReport> {
  return (await rig.json(["status"])) as StatusReport;
}

async function refusals({ rig }: Served): Promise<EventRow[]> {
  const events = (await rig.json(["events", "--last", "100"])) as EventRow[];
  return events.filter(({ kind }) => kind === "client-refused");
}

function checkMemory(t: TestContext, rig: Rig, what: string): void {
  const { nowBytes, peakBytes } = resident(rig);
  t.diagnostic(`${what}: resident ${Math.round(nowBytes / MIB)} MiB, peak ${Math.round(peakBytes / MIB)} MiB`);
  assert.ok(peakBytes <= RESIDENT_MAX, `${what}: ${Math.round(peakBytes / MIB)} MiB`);
}

function writeCall(xid: number, file: Buffer, offset: number, data: Buffer): Buffer {
  const args = encode((w) => {
    w.opaque(file);
    writeU64(w, offset);
    w.u32(data.length);
    w.u32(0);
    w.opaque(data);
  });
  return frame(encodeCall(xid, Proc.write, args));
}

function readCall(xid: number, file: Buffer, offset: number): Buffer {
  const args = encode((w) => {
    w.opaque(file);
    writeU64(w, offset);
    w.u32(MIB);
  });
  return frame(encodeCall(xid, Proc.read, args));
}

test("clients: a stranger with 600 idle connections and 500 half records keeps nobody out, and holds little", async (t) => {
  const all = await served(t);
  const { rig, file } = all;
  const early = await NfsClient.connect(rig.port, "127.0.0.1", HOG);
  t.after(() => early.close());
  resetPeak(rig);
  const idle = await opened(t, rig, STRANGER, 600);
  t.diagnostic(`slowest ${Math.round(await bystander(all))} ms`);
  assert.equal((await early.getattr(file)).status, 0, "one that was there before is served");
  const { clients } = await status(all);
  assert.equal(clients.strangers, DEFAULT_LIMITS.clients.strangersPerAddressMax);
  for (const socket of idle) socket.destroy();

  const half = Buffer.concat([Buffer.from([0x80, 0x10, 0, 0]), Buffer.alloc(300 * 1024)]);
  const halves = await opened(t, rig, STRANGER, 500);
  for (const socket of halves) socket.write(half);
  t.diagnostic(`slowest ${Math.round(await bystander(all))} ms`);
  assert.equal((await status(all)).clients.receivedBytes, 0);
  const told = (await refusals(all)).map(({ detail }) => `${detail.why} ${detail.address}`);
  assert.deepEqual(told.sort(), [`record ${STRANGER}`, `strangers ${STRANGER}`]);
  checkMemory(t, rig, "strangers");
});

test("clients: half records and unread replies of an admitted client: only its own address is held up", async (t) => {
  const all = await served(t);
  const { rig, file } = all;
  resetPeak(rig);
  const half = Buffer.concat([Buffer.from([0x80, 0x10, 0, 0]), Buffer.alloc(900 * 1024)]);
  const halves = await opened(t, rig, HOG, 250);
  for (const socket of halves) socket.write(half);
  t.diagnostic(`half records: slowest ${Math.round(await bystander(all))} ms`);
  const { clients } = await status(all);
  const { requests, replies } = DEFAULT_LIMITS.clients;
  assert.ok(
    clients.receivedBytes > MIB && clients.receivedBytes <= requests.bytesMax / 2 + RECORD_BYTES,
    `${clients.receivedBytes}`,
  );
  checkMemory(t, rig, "half records");
  for (const socket of halves) socket.destroy();

  resetPeak(rig);
  for (let i = 0; i < 60; i++) {
    const socket = await deaf(t, rig, HOG);
    for (let j = 0; j < 64; j++) socket.write(readCall(j, file, (j % 16) * MIB));
  }
  t.diagnostic(`unread READs: slowest ${Math.round(await bystander(all))} ms`);
  const { lentBytes } = (await status(all)).clients;
  assert.ok(lentBytes > MIB && lentBytes <= replies.bytesMax / 2 + MIB, `${lentBytes}`);
  checkMemory(t, rig, "unread READs");
});

test("clients: unread replies of all sizes from 200 connections of many addresses", async (t) => {
  const all = await served(t);
  const { rig, root, file } = all;
  const client = await NfsClient.connect(rig.port, "127.0.0.1", BYSTANDER);
  t.after(() => client.close());
  for (let i = 0; i < 500; i++) await client.create(root, `${"n".repeat(200)}${i}`);
  resetPeak(rig);
  const listing = encode((w) => {
    w.opaque(root);
    writeU64(w, 0);
    w.fixed(Buffer.alloc(8));
    w.u32(65536);
    w.u32(65536);
  });
  const calls = [
    encodeCall(1, Proc.null, Buffer.alloc(0)),
    encodeCall(2, 2, Buffer.alloc(0), { program: MOUNT }),
    encodeCall(3, Proc.readdirplus, listing),
    encodeCall(
      4,
      Proc.getattr,
      encode((w) => w.opaque(file)),
    ),
  ].map(frame);
  for (let i = 0; i < 200; i++) {
    const socket = await deaf(t, rig, `127.1.0.${1 + (i % 50)}`);
    const call = calls[i % calls.length]!;
    // Small ones come one by one: each has a reply that could leave by itself.
    for (let j = 0; j < 200; j++) socket.write(call);
    socket.write(Buffer.concat(Array.from({ length: 20_000 }, () => call)));
  }
  t.diagnostic(`unread replies: slowest ${Math.round(await bystander(all))} ms`);
  checkMemory(t, rig, "unread replies");
});

test("clients: 64 of them write to disks that are slow", async (t) => {
  const all = await served(t);
  const { rig, file, root } = all;
  for (const disk of [1, 2, 3, 4, 5])
    await rig.ok(["rig", "fault", "--disk", String(disk), "--kind", "slow", "--delay", "200"]);
  resetPeak(rig);
  const data = randomBytes(MIB);
  for (let i = 0; i < 64; i++) {
    const socket = await open(t, rig, `127.1.0.${1 + i}`);
    socket.resume();
    for (let j = 0; j < 16; j++) socket.write(writeCall(j, file, ((i * 16 + j) % 800) * MIB, data));
  }
  const client = await NfsClient.connect(rig.port, "127.0.0.1", BYSTANDER);
  t.after(() => client.close());
  let slowestMs = 0;
  for (let i = 0; i < 100; i++) {
    const startedMs = performance.now();
    assert.equal((await client.getattr(root)).status, 0);
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    await sleep(50);
  }
  t.diagnostic(`slow disks: slowest GETATTR ${Math.round(slowestMs)} ms`);
  checkMemory(t, rig, "slow disks");
  await rig.ok(["rig", "fault", "--clear"]);
});
