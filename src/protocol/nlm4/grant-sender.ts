import type { FileLocks, FileSystem, LockGrant } from "../../fs/vfs.js";
import type { CancelTimer, Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Logger } from "../../lib/log.js";
import type { RpcClient } from "../rpc/client.js";
import { XdrWriter } from "../xdr/writer.js";
import { encodeGranted } from "./codec.js";
import { decodeNote } from "./note.js";
import { NLM4_PROGRAM, NLM4_VERSION, Nlm4Procedure } from "./procedures.js";
import { Nlm4Status } from "./status.js";

/** Between two attempts to tell a client: at first, and at most. A client that has given up asks for the lock again itself. */
const RETRY_MS_FIRST = 1_000;
const RETRY_MS_MAX = 30_000;

/**
 * So long a lock stays with a client that does not confirm it; then it goes to the next. One that cannot be reached does not know of it, and asks
 * again itself when it is back (Linux: every 30 seconds).
 */
const UNREACHED_MS_MAX = 60_000;
/** One that may have been told could go on as if it had the lock: it is told again and again, which a living one answers. */
const UNANSWERED_MS_MAX = 300_000;

/** Offers that were given up are remembered for a client that confirms late; the oldest leave. */
const GIVEN_UP_KEPT_MAX = 1024;

export interface GrantSenderOptions {
  readonly client: RpcClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** Our own host name, as it appears in the calls. */
  readonly serverName: string;
}

/** One grant on its way to the client. */
interface Delivery {
  readonly locks: FileLocks;
  readonly grant: LockGrant;
  /** Ours: a client that answers with a message (GRANTED_RES) names it. */
  readonly cookie: Buffer;
  readonly begunMs: number;
  /** A call may have come to the client, though nothing came back. */
  mayKnow: boolean;
  waitMs: number;
  cancelRetry: CancelTimer;
  cancelGivingUp: CancelTimer;
}

/**
 * Tells clients that a lock for which they waited is theirs (GRANTED, X/Open XNFS C702 section 10.3), until they confirm it. A client that
 * does not want it any more says DENIED, and the lock goes to the next; so it does when nothing is heard for too long. A client that asks again meanwhile, as Linux does every 30 seconds, has
 * confirmed it by that; its answer to a call that is still under way is then not listened to.
 */
export class GrantSender {
  readonly #watched = new Map<FileSystem, () => void>();
  readonly #deliveries = new Map<string, Delivery>();
  /** By cookie, the newest last. */
  readonly #givenUp = new Map<string, Delivery>();
  #nextCookie = 1;
  #closed = false;

  constructor(private readonly options: GrantSenderOptions) {}

  /** Also tells what was granted, and not confirmed, before the last restart. */
  watch(fileSystem: FileSystem): void {
    if (this.#watched.has(fileSystem) || this.#closed) return;
    this.#watched.set(fileSystem, () => {});
    const stop = fileSystem.locks.onGranted((grant) => this.#begin(fileSystem.locks, grant));
    this.#watched.set(fileSystem, stop);
  }

  /** The file system is served no more. */
  unwatch(fileSystem: FileSystem): void {
    this.#watched.get(fileSystem)?.();
    this.#watched.delete(fileSystem);
    for (const delivery of this.#deliveries.values()) if (delivery.locks === fileSystem.locks) this.#end(delivery);
    for (const [key, { locks }] of this.#givenUp) if (locks === fileSystem.locks) this.#givenUp.delete(key);
  }

  close(): void {
    this.#closed = true;
    for (const stop of this.#watched.values()) stop();
    this.#watched.clear();
    for (const delivery of this.#deliveries.values()) this.#end(delivery);
  }

  /** A client's answer to GRANTED_MSG. One from elsewhere than where the request came from is no answer. */
  answered(address: string, cookie: Buffer, status: number): void {
    const key = cookie.toString("hex");
    const delivery = this.#deliveries.get(key) ?? this.#givenUp.get(key);
    if (delivery !== undefined && delivery.grant.owner.address === address) void this.#settle(delivery, status);
  }

  /** The answer to a message goes out as a call of its own, whose reply says nothing. */
  answer(host: string, from: string, procedure: number, results: Buffer): void {
    if (this.#closed) return;
    const call = { host, from, program: NLM4_PROGRAM, version: NLM4_VERSION, procedure, args: results };
    void this.options.client.call(call).then((result) => {
      if (!result.ok) this.options.log.debug({ host, procedure, why: result.why }, "nlm4: answer not delivered");
    });
  }

  #begin(locks: FileLocks, grant: LockGrant): void {
    const cookie = new XdrWriter();
    cookie.u64(this.#nextCookie++);
    const delivery: Delivery = {
      ...{ locks, grant, cookie: Buffer.from(cookie.bytes()), begunMs: this.options.clock.monotonicMs() },
      ...{ mayKnow: false, waitMs: RETRY_MS_FIRST, cancelRetry: () => {}, cancelGivingUp: () => {} },
    };
    this.#deliveries.set(delivery.cookie.toString("hex"), delivery);
    this.#giveUpAfter(delivery, UNREACHED_MS_MAX);
    void this.#deliver(delivery);
  }

  #giveUpAfter(delivery: Delivery, delayMs: number): void {
    delivery.cancelGivingUp = this.options.clock.after(delayMs, () => {
      const leftMs = delivery.begunMs + UNANSWERED_MS_MAX - this.options.clock.monotonicMs();
      if (!this.#isWanted(delivery)) this.#end(delivery);
      else if (delivery.mayKnow && leftMs > 0) this.#giveUpAfter(delivery, leftMs);
      else void this.#giveUp(delivery);
    });
  }

  /** The lock goes to the next. */
  async #giveUp(delivery: Delivery): Promise<void> {
    const { grant, cookie, mayKnow } = delivery;
    const { host: client, address } = grant.owner;
    this.options.log.info({ client, address, mayKnow }, "nlm4: a client did not take the lock that it waited for");
    this.#givenUp.set(cookie.toString("hex"), delivery);
    for (const oldest of this.#givenUp.keys()) {
      if (this.#givenUp.size <= GIVEN_UP_KEPT_MAX) break;
      this.#givenUp.delete(oldest);
    }
    this.#end(delivery);
    await this.#tryTo(() => delivery.locks.settle(grant, false));
  }

  async #deliver(delivery: Delivery): Promise<void> {
    const { grant } = delivery;
    if (!this.#isWanted(delivery)) return this.#end(delivery);
    const note = decodeNote(grant.note);
    // Another version has left it: nobody can be told.
    if (note === null) return await this.#giveUp(delivery);
    const { client, log, serverName } = this.options;
    const result = await client.call({
      ...{ host: grant.owner.address, from: specific(note.localAddress), program: NLM4_PROGRAM, version: NLM4_VERSION },
      procedure: note.asMessage ? Nlm4Procedure.grantedMessage : Nlm4Procedure.granted,
      args: encodeGranted(serverName, { ...grant, cookie: delivery.cookie, handle: note.handle }),
      urgency: "news",
      isWanted: () => this.#isWanted(delivery),
    });
    if (!result.ok)
      log.debug({ client: grant.owner.host, why: result.why }, "nlm4: GRANTED not delivered, tried again");
    if (result.ok || result.mayHaveArrived) delivery.mayKnow = true;
    const status = result.ok && !note.asMessage ? statusIn(result.results) : null;
    if (status === null || status === Nlm4Status.deniedGracePeriod) this.#retryLater(delivery);
    else await this.#settle(delivery, status);
  }

  #retryLater(delivery: Delivery): void {
    if (!this.#isWanted(delivery)) {
      this.#end(delivery);
      return;
    }
    delivery.cancelRetry = this.options.clock.after(delivery.waitMs, () => void this.#deliver(delivery));
    delivery.waitMs = Math.min(2 * delivery.waitMs, RETRY_MS_MAX);
  }

  #isWanted({ cookie, locks, grant }: Delivery): boolean {
    return this.#deliveries.has(cookie.toString("hex")) && locks.pending(grant);
  }

  async #settle(delivery: Delivery, status: number): Promise<void> {
    const { locks, grant, cookie } = delivery;
    const isLate = this.#givenUp.delete(cookie.toString("hex"));
    this.#end(delivery);
    const granted = status === Nlm4Status.granted;
    if (!isLate) await this.#tryTo(() => locks.settle(grant, granted));
    else if (granted) await this.#tryTo(() => this.#giveBack(delivery));
  }

  /** The client goes on as if it had the lock. When nobody has it, it gets it; otherwise there is no way to take it back from it. */
  async #giveBack({ locks, grant }: Delivery): Promise<void> {
    if (await locks.retake(grant)) return;
    const { host: client, address } = grant.owner;
    this.options.log.warn(
      { client, address, pid: grant.owner.svid },
      "nlm4: a client confirms a lock minutes after it went to another: both believe that they have it",
    );
  }

  /** When the file system has stopped, the grant is told again after the next mount. */
  async #tryTo(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.options.log.debug({ error: messageOf(error) }, "nlm4: a grant could not be settled");
    }
  }

  #end(delivery: Delivery): void {
    delivery.cancelRetry();
    delivery.cancelGivingUp();
    this.#deliveries.delete(delivery.cookie.toString("hex"));
  }
}

/** nlm4_res; null when it does not decode. */
function statusIn(results: { opaque(bytesMax: number): Buffer; u32(): number }): number | null {
  try {
    results.opaque(1024);
    return results.u32();
  } catch {
    return null;
  }
}

/** "Any address" is none to call from. */
function specific(address: string): string {
  return address === "0.0.0.0" || address === "::" ? "" : address;
}
