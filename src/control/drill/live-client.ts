import { messageOf, StorageError } from "../../lib/errors.js";
import { FILE_SYNC } from "../../protocol/nfs3/stable-how.js";
import type { XdrWriter } from "../../protocol/xdr/writer.js";
import { ProbeClient } from "./probe-client.js";

const NFS = 100003;
const MOUNT = 100005;
/** RFC 1813 section 3.3. */
const Procedure = { getattr: 1, write: 7, create: 8, remove: 12, rename: 14 } as const;
const HANDLE_BYTES_MAX = 64;
const GUARDED = 1;

/**
 * A client that works all the time while the service moves: it creates a file, writes, renames and removes it, and starts over. Any answer other than
 * success is wrong: it means that a call was lost or done twice. Where it may not write, it only looks.
 */
export class LiveClient {
  readonly #probe: ProbeClient;
  readonly #name = `.stripeward-drill-${process.pid}-${Date.now()}`;
  #root: Buffer = Buffer.alloc(0);
  #running = true;
  #work: Promise<void> = Promise.resolve();
  #failure: unknown = null;
  /** false: the export does not let it write. */
  writes = true;
  readonly wrong: string[] = [];

  constructor(host: string, port: number) {
    this.#probe = new ProbeClient(host, port);
  }

  get calls(): number {
    return this.#probe.calls;
  }

  /** @throws StorageError EIO when the export cannot be mounted */
  async start(path: string): Promise<void> {
    const mounted = await this.#probe.call({ program: MOUNT, procedure: 1, args: (w) => w.text(path) });
    const status = mounted.u32();
    if (status !== 0) throw new StorageError("EIO", `${path} cannot be mounted from this machine (status ${status})`);
    this.#root = Buffer.from(mounted.opaque(HANDLE_BYTES_MAX));
    this.writes = (await this.#round(0)) === null;
    if (!this.writes) this.wrong.length = 0;
    this.#work = this.#loop().catch((error: unknown) => {
      this.#failure = error;
      this.wrong.push(messageOf(error));
    });
  }

  /** The longest that a call has taken since this was asked last, in milliseconds. */
  takeSlowestMs(): number {
    const { slowestMs } = this.#probe;
    this.#probe.slowestMs = 0;
    return slowestMs;
  }

  /** Until so many more calls are answered. @throws what ended the work */
  async progress(calls: number): Promise<void> {
    const wanted = this.calls + calls;
    while (this.calls < wanted) {
      if (this.#failure !== null) throw this.#failure;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async end(): Promise<void> {
    this.#running = false;
    await this.#work;
    this.#probe.close();
  }

  async #loop(): Promise<void> {
    for (let i = 1; this.#running; i++) {
      const trouble = this.writes ? await this.#round(i) : await this.#look();
      if (trouble !== null) this.wrong.push(trouble);
    }
  }

  async #look(): Promise<string | null> {
    return this.#judge("GETATTR", await this.#status(Procedure.getattr, (w) => w.opaque(this.#root)));
  }

  /** @returns what went wrong, null when nothing did */
  async #round(i: number): Promise<string | null> {
    const [name, renamed] = [`${this.#name}-${i}`, `${this.#name}-${i}-moved`];
    const created = await this.#probe.call({
      program: NFS,
      procedure: Procedure.create,
      args: (w) => this.#createArgs(w, name),
    });
    const status = created.u32();
    if (status !== 0) return this.#judge("CREATE", status);
    created.bool();
    const file = Buffer.from(created.opaque(HANDLE_BYTES_MAX));
    const write = (w: XdrWriter) => {
      w.opaque(file);
      for (const value of [0, 0, name.length, FILE_SYNC]) w.u32(value);
      w.text(name);
    };
    const rename = (w: XdrWriter) => {
      this.#entry(w, name);
      this.#entry(w, renamed);
    };
    return (
      this.#judge("WRITE", await this.#status(Procedure.write, write)) ??
      this.#judge("RENAME", await this.#status(Procedure.rename, rename)) ??
      this.#judge("REMOVE", await this.#status(Procedure.remove, (w) => this.#entry(w, renamed)))
    );
  }

  #createArgs(w: XdrWriter, name: string): void {
    this.#entry(w, name);
    // Mode 0600, nothing else set (sattr3).
    for (const value of [GUARDED, 1, 0o600, 0, 0, 0, 0, 0]) w.u32(value);
  }

  #entry(w: XdrWriter, name: string): void {
    w.opaque(this.#root);
    w.text(name);
  }

  async #status(procedure: number, args: (w: XdrWriter) => void): Promise<number> {
    return (await this.#probe.call({ program: NFS, procedure, args })).u32();
  }

  #judge(what: string, status: number): string | null {
    return status === 0 ? null : `${what} was answered with status ${status}`;
  }
}
