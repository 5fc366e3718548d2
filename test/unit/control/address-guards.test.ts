import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import { AddressGuards } from "../../../src/control/address-guards.js";
import { HandClock } from "../../support/hand-clock.js";

function bench() {
  const clock = new HandClock();
  const hosts = new Set<string>();
  const [said, useless] = [[] as string[], [] as number[]];
  const started: { ended: boolean }[] = [];
  const guards = new AddressGuards({
    clock,
    hosts: () => hosts,
    start: (host) => {
      said.push(`guard ${host}`);
      const guard = {
        ended: false,
        live: () => void said.push(`live ${host}`),
        release: () => void said.push(`release ${host}`),
      };
      started.push(guard);
      return guard;
    },
    onUseless: () => void useless.push(1),
  });
  return { clock, hosts, said, useless, started, guards, take: () => said.splice(0) };
}

test("address guards: each address that is had has one, which hears of us twice a second, and is released with it", async () => {
  const { clock, hosts, guards, take } = bench();
  guards.start();
  deepEqual(take(), []);
  hosts.add("192.0.2.1");
  guards.tick();
  deepEqual(take(), ["guard 192.0.2.1"]);
  equal(guards.guards("192.0.2.1"), true);
  await clock.advance(1000);
  deepEqual(take(), ["live 192.0.2.1", "live 192.0.2.1"]);
  hosts.clear();
  guards.tick();
  deepEqual(take(), ["release 192.0.2.1"]);
  equal(guards.guards("192.0.2.1"), false);
  guards.end();
  deepEqual(take(), []);
});

test("address guards: one that was lost is begun again, at once", async () => {
  const { clock, hosts, guards, started, take } = bench();
  hosts.add("192.0.2.1");
  guards.start();
  await clock.advance(5000);
  take();
  started[0]!.ended = true;
  equal(guards.guards("192.0.2.1"), false);
  guards.tick();
  deepEqual(take(), ["guard 192.0.2.1"]);
});

test("address guards: a command that knows none is told once, and tried again a minute later", async () => {
  const { clock, hosts, guards, started, useless, take } = bench();
  hosts.add("192.0.2.1");
  guards.start();
  started[0]!.ended = true;
  await clock.advance(30_000);
  deepEqual([take().length, useless.length], [1, 1]);
  await clock.advance(31_000);
  equal(take()[0], "guard 192.0.2.1");
  started[1]!.ended = true;
  await clock.advance(1000);
  equal(useless.length, 1);
});
