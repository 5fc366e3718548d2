import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import { ServiceAddresses } from "../../../src/control/service-addresses.js";
import { StorageError } from "../../../src/lib/errors.js";
import { SILENT } from "../../../src/lib/log.js";
import { gate } from "../../support/gate.js";
import { HandClock, settle } from "../../support/hand-clock.js";

const ADDRESS = { host: "192.0.2.1", port: 2049 };

function bench() {
  const said: string[] = [];
  let listens: string | null = null;
  let removal = Promise.resolve();
  let draining = Promise.resolve();
  const services = new ServiceAddresses({
    ...{ clock: new HandClock(), drainMs: 5, log: SILENT },
    nfs: {
      listen: async (place) => {
        said.push("listen");
        if (listens !== null) throw Object.assign(new Error(listens), { code: listens });
        return { host: place.host, port: place.port ?? 0 };
      },
      unlisten: async (_place, { drainMs }) => {
        said.push(`unlisten ${drainMs}`);
        await draining;
      },
    },
    command: {
      change: async (verb, host) => {
        if (verb === "remove") await removal;
        said.push(`${verb} ${host}`);
      },
    },
  });
  return {
    ...{ services, said, take: () => said.splice(0) },
    refuse: (code: string | null) => (listens = code),
    hold: (until: Promise<void>) => (removal = until),
    drain: (until: Promise<void>) => (draining = until),
  };
}

test("service addresses: an address comes before the port, and goes after it", async () => {
  const { services, take } = bench();
  await services.bring("chn1", ADDRESS);
  deepEqual([take(), services.wantedHosts()], [["add 192.0.2.1", "listen"], ["192.0.2.1"]]);
  await services.withdraw("chn1");
  deepEqual([take(), services.wantedHosts()], [["unlisten 5", "remove 192.0.2.1"], []]);
});

test("service addresses: where nobody can listen the address does not stay", async () => {
  const { services, take, refuse } = bench();
  refuse("EADDRNOTAVAIL");
  await rejects(services.bring("chn1", ADDRESS), { message: /does not have the address/ });
  deepEqual([take(), services.wantedHosts()], [["add 192.0.2.1", "listen", "remove 192.0.2.1"], []]);
});

test("service addresses: whoever lets go after hanging up waits until the address is gone: the partner comes next", async () => {
  const { services, take, hold } = bench();
  await services.bring("chn1", ADDRESS);
  take();
  const { opened, open: removed } = gate();
  hold(opened);
  services.hangUp("chn1");
  let withdrawn = false;
  const withdrawal = services.withdraw("chn1").then(() => {
    withdrawn = true;
  });
  await settle();
  deepEqual([take(), withdrawn], [["unlisten 0"], false]);
  removed();
  await withdrawal;
  deepEqual(take(), ["remove 192.0.2.1"]);
});

test("service addresses: while what is under way is answered the address stays, whoever finds it there", async () => {
  const { services, take, drain } = bench();
  await services.bring("chn1", ADDRESS);
  take();
  const { opened, open: answered } = gate();
  drain(opened);
  const withdrawal = services.withdraw("chn1");
  await settle();
  await services.clear("192.0.2.1");
  deepEqual(take(), ["unlisten 5"]);
  answered();
  await withdrawal;
  deepEqual(take(), ["remove 192.0.2.1"]);
  await services.clear("192.0.2.1");
  deepEqual(take(), ["remove 192.0.2.1"]);
});

test("service addresses: what is to be had is not removed, however late the order for that comes", async () => {
  const { services, take } = bench();
  await services.bring("chn1", ADDRESS);
  await services.clear("192.0.2.1");
  deepEqual(take(), ["add 192.0.2.1", "listen"]);
  await services.clear("192.0.2.5");
  deepEqual(take(), ["remove 192.0.2.5"]);
});

test("service addresses: one that cannot be removed does not keep the group", async () => {
  const { services, hold } = bench();
  await services.bring("chn1", ADDRESS);
  hold(Promise.reject(new StorageError("EIO", "not permitted")));
  await services.withdraw("chn1");
  equal(services.brought.size, 0);
});
