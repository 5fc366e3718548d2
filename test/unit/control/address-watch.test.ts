import assert from "node:assert/strict";
import type { NetworkInterfaceInfo } from "node:os";
import { test } from "node:test";
import type { AddressCheck } from "../../../src/control/address-command.js";
import { AddressWatch } from "../../../src/control/address-watch.js";
import type { NewEvent } from "../../../src/control/event-log.js";
import { StorageError } from "../../../src/lib/errors.js";
import { HandClock } from "../../support/hand-clock.js";

/** chn1 serves at `host`; chn5's address is 192.0.2.5, served there. */
function rig(host: string) {
  const here = new Set([host]);
  const served = new Map([["chn1", { host, port: 2049 }]]);
  const [lost, changes, events] = [[] as string[], [] as string[], [] as NewEvent[]];
  let isBlind = false;
  let [refusal, check]: [string | null, AddressCheck] = [null, { kind: "alone" }];
  let onCheck = (): void => {};
  const change = async (verb: string, address: string): Promise<void> => {
    changes.push(`${verb} ${address}`);
    if (refusal !== null) throw new StorageError("EIO", refusal);
    if (verb === "restore") here.add(address);
    else here.delete(address);
  };
  const watch = new AddressWatch({
    clock: new HandClock(),
    served: () => served,
    known: () => new Map([...[["chn1", { host, port: 2049 }] as const], ["chn5", { host: "192.0.2.5", port: 2049 }]]),
    command: {
      restore: (address) => change("restore", address.host),
      clear: (address) => change("clear", address),
      check: async () => {
        onCheck();
        return check;
      },
    },
    onLost: (home, why) => void lost.push(`${home}: ${why}`),
    onEvent: (event) => void events.push(event),
    interfaces: () => {
      if (isBlind) throw new Error("Unknown system error 97");
      return { eth0: [...here].map((address) => ({ address }) as NetworkInterfaceInfo) };
    },
  });
  const kinds = (): string[] => events.splice(0).map(({ kind }) => kind);
  return {
    ...{ watch, here, served, lost, changes, kinds },
    refuse: (why: string | null) => (refusal = why),
    blind: () => (isBlind = true),
    answer: (found: AddressCheck) => (check = found),
    meanwhile: (action: () => void) => (onCheck = action),
  };
}

test("address watch: an address that is there is left alone, one that is taken away is put back", async () => {
  const { watch, here, lost, changes } = rig("192.0.2.1");
  await watch.look();
  assert.deepEqual(changes, []);
  here.clear();
  await watch.look();
  assert.deepEqual([changes, lost], [["restore 192.0.2.1"], []]);
});

test("address watch: one that cannot be put back is given up, with the reason", async () => {
  const { watch, here, lost, refuse } = rig("192.0.2.1");
  here.clear();
  refuse("no such interface");
  await watch.look();
  assert.deepEqual(lost, ["chn1: this machine has lost the address 192.0.2.1 (no such interface)"]);
});

test("address watch: loopback and wildcard addresses cannot be lost, nor be given up", async () => {
  for (const host of ["127.0.0.3", "0.0.0.0", "::"]) {
    const { watch, here, served, lost, changes } = rig(host);
    here.clear();
    await watch.look();
    served.clear();
    await watch.look();
    assert.deepEqual([lost, changes], [[], []]);
  }
});

test("address watch: whoever stands by gives up every address of the pair that it finds on its machine", async () => {
  const { watch, here, served, changes, kinds } = rig("192.0.2.1");
  here.add("192.0.2.5");
  await watch.look();
  assert.deepEqual([changes, kinds()], [["clear 192.0.2.5"], ["address-cleared"]]);
  served.clear();
  await watch.look();
  assert.deepEqual([changes.slice(1), kinds(), [...here]], [["clear 192.0.2.1"], ["address-cleared"], []]);
  await watch.look();
  assert.equal(changes.length, 2, "nothing is left to do");
});

test("address watch: at the start all are given up, shown or not, and without a word when none was there", async () => {
  const { watch, here, served, changes, kinds } = rig("192.0.2.1");
  served.clear();
  here.clear();
  await watch.clearAll();
  assert.deepEqual([changes, kinds()], [["clear 192.0.2.1", "clear 192.0.2.5"], []]);
});

test("address watch: one that cannot be given up is told once, and stays known until it is gone", async () => {
  const { watch, here, kinds, refuse } = rig("192.0.2.1");
  here.add("192.0.2.5");
  refuse("not permitted");
  await watch.look();
  await watch.look();
  assert.deepEqual(kinds(), ["address-stuck"]);
  assert.deepEqual(watch.stuck, [
    "this machine may have the service address 192.0.2.5, does not serve there, and cannot give it up: not permitted",
  ]);
  refuse(null);
  await watch.look();
  assert.deepEqual([watch.stuck, kinds()], [[], ["address-cleared"]]);
});

test("address watch: another machine with an address that is served here is told once, and spoken against", async () => {
  const { watch, changes, kinds, answer } = rig("192.0.2.1");
  await watch.checkAll();
  assert.deepEqual([watch.conflicts, kinds()], [[], []]);
  answer({ kind: "held", by: "02:00:00:00:00:05" });
  await watch.checkAll();
  await watch.checkAll();
  assert.deepEqual(kinds(), ["address-conflict"]);
  assert.deepEqual(watch.conflicts, [
    "another machine (02:00:00:00:00:05) has the service address 192.0.2.1, too: clients may find that one",
  ]);
  assert.deepEqual(changes, ["restore 192.0.2.1", "restore 192.0.2.1"], "it is announced again");
  answer({ kind: "failed", why: "no privilege" });
  await watch.checkAll();
  assert.equal(watch.conflicts.length, 1, "what cannot be asked is not over");
  answer({ kind: "alone" });
  await watch.checkAll();
  assert.deepEqual([watch.conflicts, kinds()], [[], ["address-alone"]]);
});

test("address watch: an address that moves while others are asked about it is no conflict", async () => {
  const { watch, served, kinds, changes, answer, meanwhile } = rig("192.0.2.1");
  answer({ kind: "held", by: "02:00:00:00:00:05" });
  meanwhile(() => served.clear());
  await watch.checkAll();
  assert.deepEqual([watch.conflicts, kinds(), changes], [[], [], []]);
});

test("address watch: a conflict about an address that is not served here any more is over", async () => {
  const { watch, served, answer } = rig("192.0.2.1");
  answer({ kind: "held", by: "02:00:00:00:00:05" });
  await watch.checkAll();
  served.clear();
  await watch.checkAll();
  assert.deepEqual(watch.conflicts, []);
});

test("address watch: where addresses cannot be seen nothing is taken for lost", async () => {
  const { watch, lost, changes, blind } = rig("192.0.2.1");
  blind();
  await watch.look();
  assert.deepEqual([lost, changes], [[], []]);
  await watch.clearAll();
  assert.deepEqual(changes, ["clear 192.0.2.5"], "what is not ours at the start is given up, seen or not");
});
