import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../../../src/lib/next-turn.js";
import { ByteLedger } from "../../../../src/protocol/streams/byte-ledger.js";
import { settle } from "../../../support/hand-clock.js";

const bounds = { bytesMax: 1000, shareBytesMin: 10, overrunBytesMax: 30 };

/** As much as it gets, in pieces. */
function fill(share: { tryTake(byteCount: number): boolean }, piece: number): void {
  while (share.tryTake(piece)) {
    // Once more.
  }
}

test("ledger: one alone takes half, two a third each, and who comes next finds as much", () => {
  const ledger = new ByteLedger(bounds);
  const [first, second, third] = [ledger.share(), ledger.share(), ledger.share()];
  fill(first, 1);
  assert.equal(first.held, 500);
  fill(second, 1);
  assert.equal(second.held, 250, "half of what the first left");
  assert.ok(first.full, "it holds more than is left");
  first.give(200);
  fill(second, 1);
  fill(first, 1);
  assert.ok(first.held <= 350 && second.held <= 350, `${first.held} and ${second.held}`);
  assert.ok(third.tryTake(ledger.freeBytes), "who holds nothing may take all that is free");
});

test("ledger: who holds nothing gets the least share when all is in use, up to the overrun", () => {
  const ledger = new ByteLedger(bounds);
  ledger.share().take(1000);
  const shares = Array.from({ length: 5 }, () => ledger.share());
  assert.deepEqual(
    shares.map((share) => share.tryTake(10)),
    [true, true, true, false, false],
  );
  assert.equal(ledger.used, 1030);
  assert.deepEqual([shares[0]?.full, shares[4]?.full], [true, false]);
  shares[4]?.take(1);
  assert.equal(shares[4]?.full, true, "beyond the overrun nobody begins anything");
});

test("ledger: a share with a ceiling never passes it", () => {
  const share = new ByteLedger(bounds).share(25);
  fill(share, 10);
  assert.equal(share.held, 20);
  share.take(5);
  assert.ok(share.full);
});

test("ledger: what does not fit is granted when it does, first come first served within a share", async () => {
  const ledger = new ByteLedger(bounds);
  const [hog, share] = [ledger.share(), ledger.share()];
  hog.take(995);
  const order: string[] = [];
  share.whenRoom(100, () => order.push("large"));
  share.whenRoom(2, () => order.push("small"));
  await settle();
  assert.deepEqual([order, ledger.pressed, share.tryTake(1)], [[], true, false]);
  hog.give(200);
  await settle();
  assert.deepEqual([order, share.held, ledger.pressed], [["large", "small"], 102, false]);
});

test("ledger: a large request is not overtaken for ever, and a hog's own wait holds nobody back", async () => {
  const ledger = new ByteLedger(bounds);
  const [hog, other, patient] = [ledger.share(), ledger.share(), ledger.share()];
  hog.take(800);
  other.take(100);
  let granted = 0;
  hog.whenRoom(50, () => granted++);
  await settle();
  assert.ok(ledger.share().tryTake(40), "the hog waits for its own share alone");
  patient.whenRoom(120, () => granted++);
  await settle();
  assert.equal(ledger.share().tryTake(50), false, "what becomes free is for the one that waits");
  assert.ok(ledger.share().tryTake(10), "but for the least share");
  hog.give(100);
  await settle();
  assert.deepEqual([granted, patient.held], [1, 120]);
});

test("ledger: many that wait are served in turns of the event loop, one each", async () => {
  const ledger = new ByteLedger({ ...bounds, bytesMax: 100_000 });
  const hog = ledger.share();
  hog.take(100_030);
  const served: number[] = [];
  for (let i = 0; i < 40; i++) {
    const share = ledger.share();
    for (let n = 0; n < 2; n++) share.whenRoom(20, () => served.push(i));
  }
  hog.give(100_030);
  await nextTurn();
  assert.equal(served.length, 16);
  while (served.length < 80) await settle();
  assert.deepEqual(
    served.slice(0, 40),
    Array.from({ length: 40 }, (_, i) => i),
  );
});

test("ledger: a wait for the end of too much is over when something may begin", async () => {
  const ledger = new ByteLedger(bounds);
  const share = ledger.share();
  share.take(600);
  let woken = 0;
  share.whenRoom(0, () => woken++);
  await settle();
  assert.equal(woken, 0);
  share.give(101);
  await settle();
  assert.deepEqual([woken, share.held], [1, 499]);
});
