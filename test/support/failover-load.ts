import { setTimeout as sleep } from "node:timers/promises";
import { diropArgs, encode, MOUNT, Proc, writeSattr, writeU64 } from "./nfs-client.js";
import { type LockArgs, lockArgs, NLM, NlmProc, NlmStat, testArgs, unlockArgs } from "./nlm-client.js";
import { RetryClient } from "./retry-client.js";

/** Files that a lane keeps; older ones it removes. */
const KEPT = 20;
const BLOCK = 4096;
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Proc).map(([name, number]) => [number, name]));

/** A file as the lane knows it from acknowledged calls. */
interface Known {
  readonly handle: Buffer;
  readonly fill: number;
}

/**
 * Clients that create (guarded), write, rename, link, make, remove, lock and unlock all the time, and hold a lock for good, each operation once, and know what must be there. Every answer
 * other than success is a fault: nothing of it can happen unless a call was lost, or done twice.
 */
export class FailoverLoad {
  readonly faults: string[] = [];
  readonly #lanes: Lane[];
  #running = true;
  #work: Promise<unknown> = Promise.resolve();

  constructor(host: string, port: number, lanes = 4, seed = 1, path = "/data") {
    this.#lanes = Array.from(
      { length: lanes },
      (_, i) => new Lane(new RetryClient(host, port, seed * 100 + i), `l${seed}-${i}`, path),
    );
  }

  async start(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.begin()));
    this.#work = Promise.all(
      this.#lanes.map(async (lane) => {
        try {
          for (let i = 0; this.#running; i++) await lane.step(i, this.faults);
        } catch (error) {
          this.faults.push(`${lane.name}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }),
    );
  }

  get operations(): number {
    return this.#lanes.reduce((sum, { client }) => sum + client.calls, 0);
  }

  get repeated(): number {
    return this.#lanes.reduce((sum, { client }) => sum + client.repeated, 0);
  }

  /** The longest that any call has waited since this was asked last, in milliseconds. */
  takeGapMs(): number {
    const longest = Math.max(...this.#lanes.map(({ client }) => client.longestMs));
    for (const { client } of this.#lanes) client.longestMs = 0;
    return longest;
  }

  /** Wait until every lane has done so many more calls: the service is there again. */
  async progress(calls: number): Promise<void> {
    const wanted = this.#lanes.map(({ client }) => client.calls + calls);
    while (this.#lanes.some(({ client }, i) => client.calls < wanted[i]!) && this.faults.length === 0) await sleep(5);
  }

  /** That every lane still holds its lock: another owner is refused. */
  async checkLocks(): Promise<void> {
    for (const lane of this.#lanes) await lane.checkLock(this.faults);
  }

  /** Stop, and look that every file that was acknowledged is there with its contents, and none that was removed. */
  async end(): Promise<void> {
    this.#running = false;
    await this.#work;
    await this.checkLocks();
    for (const lane of this.#lanes) await lane.verify(this.faults);
    for (const { client } of this.#lanes) await client.close();
  }
}

class Lane {
  readonly #files = new Map<string, Known>();
  readonly #directories: string[] = [];
  #root: Buffer = Buffer.alloc(0);
  #home: Buffer = Buffer.alloc(0);
  #locked: Buffer = Buffer.alloc(0);

  constructor(
    readonly client: RetryClient,
    readonly name: string,
    readonly path: string,
  ) {}

  async begin(): Promise<void> {
    const mounted = await this.client.call(
      1,
      encode((w) => w.text(this.path)),
      { program: MOUNT },
    );
    if (mounted.u32() !== 0) throw new Error("the export cannot be mounted");
    this.#root = Buffer.from(mounted.opaque(64));
    this.#home = await this.#made(Proc.mkdir, this.#root, this.name, []);
    this.#locked = await this.#made(Proc.create, this.#home, "locked", []);
    const faults: string[] = [];
    await this.#lock(NlmProc.lock, lockArgs(this.#ownLock()), NlmStat.granted, "LOCK", faults);
    // It waits for as long as the load runs.
    const waiting = lockArgs({ ...this.#ownLock(), svid: 2, block: true });
    await this.#lock(NlmProc.lock, waiting, NlmStat.blocked, "LOCK that waits", faults);
    if (faults.length > 0) throw new Error(faults.join());
  }

  async step(i: number, faults: string[]): Promise<void> {
    const name = `f${i}`;
    const fill = (i * 37) & 0xff;
    const handle = await this.#made(Proc.create, this.#home, name, faults);
    await this.#change(Proc.write, writeArgs(handle, Buffer.alloc(BLOCK, fill)), name, faults);
    const renamed = `r${i}`;
    await this.#change(
      Proc.rename,
      Buffer.concat([diropArgs(this.#home, name), diropArgs(this.#home, renamed)]),
      name,
      faults,
    );
    this.#files.set(renamed, { handle, fill });
    const range = { ...this.#ownLock(), handle, offset: BigInt(i), length: 10n };
    await this.#lock(NlmProc.lock, lockArgs(range), NlmStat.granted, "LOCK", faults);
    await this.#lock(NlmProc.unlock, unlockArgs(range), NlmStat.granted, "UNLOCK", faults);
    if (i % 5 === 0) {
      const directory = `d${i}`;
      await this.#made(Proc.mkdir, this.#home, directory, faults);
      this.#directories.push(directory);
      const link = encode((w) => {
        w.opaque(handle);
        w.fixed(diropArgs(this.#home, `k${i}`));
      });
      await this.#change(Proc.link, link, name, faults);
      await this.#change(Proc.remove, diropArgs(this.#home, `k${i}`), name, faults);
    }
    await this.#shrink(faults);
  }

  async checkLock(faults: string[]): Promise<void> {
    const other = testArgs({ ...this.#ownLock(), svid: 3 });
    await this.#lock(NlmProc.test, other, NlmStat.denied, "TEST of a lock that is held", faults);
  }

  #ownLock(): LockArgs {
    return { handle: this.#locked, host: `host-${this.name}`, svid: 1 };
  }

  async #lock(procedure: number, args: Buffer, wanted: number, what: string, faults: string[]): Promise<void> {
    const body = await this.client.call(procedure, args, { program: NLM, version: 4 });
    body.opaque(1024);
    const status = body.u32();
    if (status !== wanted) faults.push(`${this.name}: ${what} was answered with ${status}, not ${wanted}`);
  }

  async verify(faults: string[]): Promise<void> {
    for (const [name, { fill }] of this.#files) {
      const found = await this.client.call(Proc.lookup, diropArgs(this.#home, name));
      if (found.u32() !== 0) {
        faults.push(`${this.name}/${name} was acknowledged and is not there`);
        continue;
      }
      const handle = Buffer.from(found.opaque(64));
      const args = encode((w) => {
        w.opaque(handle);
        writeU64(w, 0);
        w.u32(BLOCK);
      });
      const read = await this.client.call(Proc.read, args);
      if (read.u32() !== 0) faults.push(`${this.name}/${name} cannot be read`);
      else if (!read.buffer.subarray(read.at).includes(Buffer.alloc(BLOCK, fill)))
        faults.push(`${this.name}/${name} has other contents`);
    }
  }

  async #shrink(faults: string[]): Promise<void> {
    const oldest = this.#files.size > KEPT ? this.#files.keys().next().value : undefined;
    if (oldest !== undefined) {
      await this.#change(Proc.remove, diropArgs(this.#home, oldest), oldest, faults);
      this.#files.delete(oldest);
    }
    const directory = this.#directories.length > KEPT ? this.#directories.shift() : undefined;
    if (directory !== undefined) await this.#change(Proc.rmdir, diropArgs(this.#home, directory), directory, faults);
  }

  /** CREATE (guarded) or MKDIR: the handle. */
  async #made(procedure: number, directory: Buffer, name: string, faults: string[]): Promise<Buffer> {
    const args = encode((w) => {
      w.fixed(diropArgs(directory, name));
      if (procedure === Proc.create) w.u32(1);
      writeSattr(w, { mode: 0o755 });
    });
    const body = await this.client.call(procedure, args);
    const status = body.u32();
    if (status !== 0 || !body.bool()) {
      faults.push(`${this.name}: ${NAMES.get(procedure)} of ${name} was answered with ${status}`);
      throw new Error("nothing to go on with");
    }
    return Buffer.from(body.opaque(64));
  }

  async #change(procedure: number, args: Buffer, name: string, faults: string[]): Promise<void> {
    const status = (await this.client.call(procedure, args)).u32();
    if (status !== 0) faults.push(`${this.name}: ${NAMES.get(procedure)} of ${name} was answered with ${status}`);
  }
}

function writeArgs(handle: Buffer, data: Buffer): Buffer {
  return encode((w) => {
    w.opaque(handle);
    writeU64(w, 0);
    w.u32(data.length);
    w.u32(2);
    w.opaque(data);
  });
}
