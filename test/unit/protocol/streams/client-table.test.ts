import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_LIMITS } from "../../../../src/protocol/limits.js";
import { type Client, ClientTable, type Stream } from "../../../../src/protocol/streams/client-table.js";
import type { Refusal } from "../../../../src/protocol/streams/refusals.js";
import { HandClock } from "../../../support/hand-clock.js";
import { LogRecorder } from "../fixture.js";

class FakeStream implements Stream {
  busy = false;
  destroyed = false;
  constructor(readonly heardMs: number) {}
  holdBack(): void {}
  destroy(): void {
    this.destroyed = true;
  }
}

/** Addresses that begin with 10. are admitted. */
function table(change: Partial<typeof DEFAULT_LIMITS.clients> = {}) {
  const clock = new HandClock();
  const told: Refusal[] = [];
  const exports = { prefix: "10." };
  const clients = new ClientTable({
    ...{ limits: { ...DEFAULT_LIMITS.clients, ...change }, clock, log: new LogRecorder() },
    admits: ({ address }) => address.startsWith(exports.prefix),
    onRefused: (refusal) => told.push(refusal),
  });
  let heardMs = 0;
  const connect = (address: string) => {
    const client = clients.welcome({ address, family: "ipv4" });
    if (client === null) return null;
    const stream = new FakeStream(heardMs++);
    clients.enter(client, stream);
    return { client, stream };
  };
  return { clients, clock, told, exports, connect };
}

const destroyed = (all: readonly ({ stream: FakeStream } | null)[]) => all.map((one) => one?.stream.destroyed);

test("places: of strangers the oldest leaves, of one address and of all", () => {
  const { connect } = table({ strangersMax: 4, strangersPerAddressMax: 2 });
  const all = ["1.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"].map(connect);
  assert.deepEqual(destroyed(all), [true, true, false, false, false, false]);
});

test("places: a client always gets one; strangers leave for it, the one that has something to do last", () => {
  const { connect, clients } = table({ connectionsMax: 4, strangersMax: 4 });
  const strangers = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"].map(connect);
  strangers[0]!.stream.busy = true;
  assert.ok(connect("10.0.0.1"));
  assert.deepEqual(destroyed(strangers), [false, true, false, false]);
  for (const n of [2, 3, 4]) assert.ok(connect(`10.0.0.${n}`));
  assert.deepEqual(destroyed(strangers), [true, true, true, true]);
  assert.equal(connect("5.5.5.5"), null, "a stranger takes no client's place");
  const { admitted, refusals } = clients.statistics();
  assert.deepEqual([admitted, refusals.strangers], [4, 5]);
});

test("places: a full table of clients takes another one, at the cost of who has most", () => {
  const { connect } = table({ connectionsMax: 4 });
  const many = Array.from({ length: 3 }, () => connect("10.0.0.1"));
  const one = connect("10.0.0.2");
  many[0]!.stream.busy = true;
  assert.ok(connect("10.0.0.3"));
  assert.deepEqual(destroyed([...many, one]), [false, true, false, false]);
});

test("places: who has as many as it may is refused when all of them are busy", () => {
  const { connect, clients } = table({ connectionsPerAddressMax: 2 });
  for (let i = 0; i < 2; i++) connect("10.0.0.1")!.stream.busy = true;
  assert.equal(connect("10.0.0.1"), null);
  assert.ok(connect("10.0.0.2"));
  assert.equal(clients.statistics().refusals.connections, 1);
});

test("strangers: little is held for them; an export that appears admits them, one that goes leaves them what they are", () => {
  const { connect, clients, exports } = table();
  const { client } = connect("1.1.1.1") as { client: Client };
  const { strangerBytesMax } = DEFAULT_LIMITS.clients;
  assert.equal(client.requests.tryTake(strangerBytesMax + 1), false);
  exports.prefix = "1.";
  clients.reconsider();
  assert.ok(client.admitted && client.requests.tryTake(strangerBytesMax + 1));
  exports.prefix = "9.";
  clients.reconsider();
  assert.ok(client.admitted);
  assert.ok(connect("1.1.1.1")?.client === client);
});

test("shares: what an address holds counts for its next connection too", () => {
  const { connect, clients } = table();
  const { client, stream } = connect("10.0.0.1")!;
  client.replies.take(1000);
  clients.leave(client, stream);
  const again = connect("10.0.0.1")!;
  assert.equal(again.client, client);
  clients.leave(client, again.stream);
  client.replies.give(1000);
  clients.sweep();
  const anew = connect("10.0.0.1")!;
  assert.notEqual(anew.client, client, "what held nothing any more is forgotten");
  clients.leave(client, stream);
  assert.equal(connect("10.0.0.1")!.client, anew.client, "one that has left before takes nothing with it");
});

test("refusals: all are counted, one line a minute for each kind and address is told, and not many altogether", () => {
  const { clients, clock, told } = table();
  const { refusals } = clients;
  for (let i = 0; i < 1000; i++) refusals.note("unread", "10.0.0.1");
  assert.deepEqual(told, [{ kind: "unread", address: "10.0.0.1", count: 1 }]);
  clock.jump(60_000);
  refusals.note("unread", "10.0.0.1");
  assert.equal(told.at(-1)?.count, 1000);
  for (let i = 0; i < 5000; i++) refusals.note("strangers", `1.1.${i >> 8}.${i & 255}`);
  assert.ok(told.length < 20, `${told.length} lines`);
  assert.deepEqual([refusals.counts.unread, refusals.counts.strangers], [1001, 5000]);
});

test("heard: of each client the latest of its connections, also of those that ended last; of strangers nothing", () => {
  const { clients, connect } = table();
  const heard = () => Object.fromEntries(clients.heard());
  const all = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "1.1.1.1"].map((address) => connect(address)!);
  assert.deepEqual(heard(), { "10.0.0.1": 1, "10.0.0.2": 2 });
  for (const { client, stream } of all) clients.leave(client, stream);
  assert.deepEqual(heard(), { "10.0.0.1": 1, "10.0.0.2": 2 });
  for (let i = 0; i < 64; i++) {
    const { client, stream } = connect(`10.0.1.${i}`)!;
    clients.leave(client, stream);
  }
  assert.deepEqual([Object.keys(heard()).length, heard()["10.0.0.2"]], [64, undefined]);
});
