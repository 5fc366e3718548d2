import assert from "node:assert/strict";
import type { NetworkInterfaceInfo } from "node:os";
import { test } from "node:test";
import { AddressWatch } from "../../../src/control/address-watch.js";
import { StorageError } from "../../../src/lib/errors.js";
import { HandClock } from "../../support/hand-clock.js";

function rig(host: string) {
  const here = new Set([host]);
  const lost: string[] = [];
  const restored: string[] = [];
  let refuse = false;
  const watch = new AddressWatch({
    clock: new HandClock(),
    served: () => new Map([["chn1", { host, port: 2049 }]]),
    restore: async (address) => {
      if (refuse) throw new StorageError("EIO", "no such interface");
      restored.push(address.host);
      here.add(address.host);
    },
    onLost: (home, why) => void lost.push(`${home}: ${why}`),
    interfaces: () => ({ eth0: [...here].map((address) => ({ address }) as NetworkInterfaceInfo) }),
  });
  return { watch, here, lost, restored, refuse: () => (refuse = true) };
}

test("address watch: an address that is there is left alone, one that is taken away is put back", async () => {
  const { watch, here, lost, restored } = rig("192.0.2.1");
  await watch.look();
  assert.deepEqual(restored, []);
  here.clear();
  await watch.look();
  assert.deepEqual([restored, lost], [["192.0.2.1"], []]);
});

test("address watch: one that cannot be put back is given up, with the reason", async () => {
  const { watch, here, lost, refuse } = rig("192.0.2.1");
  here.clear();
  refuse();
  await watch.look();
  assert.deepEqual(lost, ["chn1: this machine has lost the address 192.0.2.1 (no such interface)"]);
});

test("address watch: loopback and wildcard addresses cannot be lost", async () => {
  for (const host of ["127.0.0.3", "0.0.0.0", "::"]) {
    const { watch, here, lost, restored } = rig(host);
    here.clear();
    await watch.look();
    assert.deepEqual([lost, restored], [[], []]);
  }
});
