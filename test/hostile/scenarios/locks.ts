import { NfsClient } from "../../support/nfs-client.js";
import { type LockArgs, NlmClient, NlmStat } from "../../support/nlm-client.js";
import { type HostileContext, overTime, type Scenario } from "../scenario.js";

/** Calls that one connection has under way: below what the server reads ahead. */
const AT_ONCE = 128;
/** Of one address, for many clients may do this at once; a third of what the table lets it have. */
const WAITERS = 1500;
const LOCKS = 5000;

interface Locker {
  readonly nlm: NlmClient;
  readonly nfs: NfsClient;
}

async function lockers(context: HostileContext, count: number): Promise<Locker[]> {
  const { target, clients } = context;
  const from = Array.from({ length: count }, (_, i) => clients[i % clients.length]!);
  const connections = await Promise.all(from.map((address) => NfsClient.connect(target.port, target.host, address)));
  for (const nfs of connections) nfs.beginXidsAt(context.random.below(2 ** 31));
  return connections.map((nfs) => ({ nfs, nlm: new NlmClient(nfs) }));
}

async function makeFile({ nfs }: Locker, name: string): Promise<{ root: Buffer; handle: Buffer }> {
  const { handle: root } = await nfs.mount("/data");
  const found = await nfs.lookup(root, name);
  return { root, handle: found.status === 0 ? found.handle : (await nfs.create(root, name)).handle! };
}

/** So many calls, a bounded number of them at a time. @returns how often each status came */
async function many(count: number, call: (i: number) => Promise<number>): Promise<Map<number, number>> {
  const statuses = new Map<number, number>();
  let next = 0;
  const one = async () => {
    while (next < count) {
      const status = await call(next++);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return statuses;
}

function expect(isSo: boolean, what: string): void {
  if (!isSo) throw new Error(what);
}

async function end(all: readonly Locker[], hosts: readonly string[]): Promise<void> {
  for (const { nlm, nfs } of all) {
    for (const host of hosts) await nlm.freeAll(host);
    await nfs.close();
  }
}

/** Thousands who wait for one lock, which then goes: all of them are given theirs, and nobody else waits for that. */
export const waiters: Scenario = {
  name: "waiters",
  async run(context) {
    const [holder, waiting, other] = (await lockers(context, 3)) as [Locker, Locker, Locker];
    const { handle } = await makeFile(holder, "waiters");
    const exclusive = context.random.below(2) === 0;
    let rounds = 0;
    try {
      while (!overTime(context) || rounds === 0) {
        expect((await holder.nlm.lock({ handle, host: "holder" })) === NlmStat.granted, "the holder gets no lock");
        const wanted = (svid: number): LockArgs => ({ handle, host: "waiter", svid, exclusive, block: true });
        const statuses = await many(WAITERS, (i) => waiting.nlm.lock(wanted(i)));
        expect(statuses.get(NlmStat.blocked) === WAITERS, `not all wait: ${JSON.stringify([...statuses])}`);
        await holder.nlm.unlock({ handle, host: "holder" });
        const { status } = await other.nlm.test({ handle, host: "other" });
        expect(status === NlmStat.denied, `none of those who waited has the lock: TEST says ${status}`);
        await waiting.nlm.freeAll("waiter");
        expect((await other.nlm.test({ handle, host: "other" })).status === NlmStat.granted, "a lock stays");
        rounds++;
      }
    } finally {
      await end([holder, waiting, other], ["holder", "waiter"]);
    }
    context.note(`${rounds} rounds of ${WAITERS} ${exclusive ? "exclusive" : "shared"} waiters`);
  },
};

/** One owner with thousands of locks on a file, that go in one request. */
export const lockedFile: Scenario = {
  name: "locked-file",
  async run(context) {
    const [owner, other] = (await lockers(context, 2)) as [Locker, Locker];
    const ways = ["UNLOCK", "LOCK of all", "REMOVE", "FREE_ALL", "SM_NOTIFY"] as const;
    const done: string[] = [];
    try {
      while (!overTime(context) || done.length === 0) {
        const name = "locked-file";
        const { root, handle } = await makeFile(owner, name);
        const one = (i: number): LockArgs => ({ handle, host: "owner", offset: BigInt(2 * i), length: 1n });
        const statuses = await many(LOCKS, (i) => owner.nlm.lock(one(i)));
        expect(statuses.get(NlmStat.granted) === LOCKS, `not all are locked: ${JSON.stringify([...statuses])}`);
        const way = ways[context.random.below(ways.length)]!;
        const all: LockArgs = { handle, host: "owner" };
        if (way === "LOCK of all") await owner.nlm.lock(all);
        if (way === "UNLOCK" || way === "LOCK of all") await owner.nlm.unlock(all);
        if (way === "REMOVE") await owner.nfs.remove(root, name);
        if (way === "FREE_ALL") await owner.nlm.freeAll("owner");
        if (way === "SM_NOTIFY") await owner.nlm.notify("owner", context.random.below(2 ** 31));
        const { status } = await other.nlm.test({ handle, host: "other" });
        const right = way === "REMOVE" ? NlmStat.stale : NlmStat.granted;
        expect(status === right, `after ${way} a TEST says ${status}`);
        done.push(way);
      }
    } finally {
      await end([owner, other], ["owner"]);
    }
    context.note(`${LOCKS} locks gone by ${done.join(", ")}`);
  },
};

/** One address under many names, until it gets no more: another one still does, and nothing that the first says is done to the other's. */
export const lockNames: Scenario = {
  name: "lock-names",
  async run(context) {
    const [flood, other] = (await lockers(context, 2)) as [Locker, Locker];
    const { handle } = await makeFile(flood, "lock-names");
    const { handle: quiet } = await makeFile(other, "lock-names-quiet");
    const names = Array.from({ length: 5 }, (_, i) => `name${i}`);
    let count = 0;
    let refused = false;
    try {
      const mine: LockArgs = { handle: quiet, host: "quiet" };
      expect((await other.nlm.lock(mine)) === NlmStat.granted, "the other client gets no lock");
      while (!refused && !overTime(context)) {
        const from = count;
        const statuses = await many(2000, (i) => {
          const [host, svid] = [names[(from + i) % names.length]!, from + i];
          return flood.nlm.lock({ handle, host, svid, offset: BigInt(2 * svid), length: 1n });
        });
        count += 2000;
        refused = statuses.has(NlmStat.noLocks);
      }
      for (const host of ["quiet", ...names]) {
        await flood.nlm.freeAll(host === "quiet" ? host : "nobody");
        await flood.nlm.unlock({ ...mine, host });
      }
      const beside = { ...mine, offset: 1n, length: 1n, host: "late" };
      expect((await flood.nlm.test(beside)).status === NlmStat.denied, "a client's lock was taken by another one");
      expect(
        (await other.nlm.lock({ handle, host: "quiet", offset: 2n ** 40n })) === NlmStat.granted,
        "no room is left",
      );
    } finally {
      await end([flood, other], ["quiet", ...names]);
    }
    context.note(`${count} locks asked for${refused ? ", until there were too many" : ""}`);
  },
};
