import type { BlockChecksums } from "../../lib/block-checksums.js";
import { StorageError } from "../../lib/errors.js";
import type { Client } from "../streams/client-table.js";
import type { Auth } from "./auth.js";
import type { Connection } from "./connection.js";
import { AcceptStatus } from "./message.js";
import type { VersionTable } from "./program-table.js";
import type { Chunk } from "./receiver.js";
import type { ReplyCache } from "./reply-cache.js";
import type { ReleaseBuffer, ReplyQueue } from "./reply-queue.js";

/** Where a call came from, and its reply goes. */
export type CallOrigin = Pick<
  Connection,
  "peer" | "replies" | "inFlightBytes" | "finishReply" | "finishReplyWith" | "finishReplyWithData"
> & {
  /** Absent where nothing is lent: a datagram. */
  readonly client?: Pick<Client, "replies">;
  /** Nobody is there any more. */
  readonly closed?: boolean;
};

/** A whole reply, from its xid on. */
export interface SetAsideReply {
  readonly key: string;
  readonly reply: Buffer;
}

/** One request. It lives until its reply is queued. */
export class RpcCall {
  /** Of the file's content among the arguments, when the checksum of all arguments came by them. */
  blockChecksums: BlockChecksums | null = null;
  /** Set when the call goes through the duplicate-request cache, until it is answered. */
  cacheKey: string | null = null;
  /** Its answer says nothing of what was done, or would be another the next time: a repetition is tried anew. */
  isTransient = false;
  /** What the duplicate-request cache remembers, once it is answered. */
  keptReply: SetAsideReply | null = null;
  /** A reply has been queued. */
  answered = false;
  /** For the statistics: the reply says something else than success. */
  failed = false;
  /** Answered later: counted in the connection's in-flight limits. */
  asynchronous = false;
  /** Where the arguments lie in the bytes as they came from the socket: held until the call is settled. */
  chunk: Chunk | null = null;
  /** Nothing of the arguments is read any more. */
  argumentsDone = false;
  /** What the client's shares are charged with while the call is under way: objects and arguments, and the reply that is being made. */
  countedBytes = 0;
  replyBytes = 0;
  /** Bytes counted against the connection's in-flight limit: those of the request, and what `charge` added. */
  chargedBytes: number;

  constructor(
    readonly connection: CallOrigin,
    readonly xid: number,
    readonly table: VersionTable,
    readonly procedure: number,
    readonly auth: Auth,
    requestBytes: number,
    /** The pooled buffer that the arguments lie in, if any. */
    readonly lease: Buffer | null,
    readonly startedMs: number,
  ) {
    this.chargedBytes = requestBytes;
  }

  get version(): number {
    return this.table.version;
  }

  get name(): string {
    return `${this.table.program.name} ${this.table.procedures[this.procedure]?.name ?? this.procedure}`;
  }

  /** Begin a successful reply with room for `bodyBytes`; the body is written into what is returned, then `finish` ends it. */
  begin(bodyBytes: number): ReplyQueue {
    const replies = this.connection.replies;
    replies.beginAccepted(this.xid, AcceptStatus.success, bodyBytes);
    return replies;
  }

  finish(): void {
    this.connection.finishReply(this);
  }

  /**
   * Take back the reply that was begun, and is complete, to send it later with `finishWith`.
   * @returns it, with its key in the duplicate-request cache; null when the call does not go through that
   */
  setAside(): SetAsideReply | null {
    const { replies } = this.connection;
    const reply = this.cacheKey === null ? null : { key: this.cacheKey, reply: replies.copyReply() };
    replies.abort();
    return reply;
  }

  finishWith(reply: SetAsideReply): void {
    this.connection.finishReplyWith(this, reply);
  }

  /** It was answered with `reply`: whoever has sent it again meanwhile is answered alike. null: it does not go through the duplicate-request cache. */
  tellCache(cache: ReplyCache, reply: Buffer | null): void {
    const key = this.cacheKey;
    this.cacheKey = null;
    if (key === null || reply === null) return;
    if (this.isTransient) cache.abandon(key, reply);
    else {
      this.keptReply = { key, reply };
      cache.complete(key, reply);
    }
  }

  /** End the reply with `byteCount` bytes of `data` by reference. */
  finishWithData(data: Buffer, byteCount: number, release: ReleaseBuffer): void {
    this.connection.finishReplyWithData(this, data, byteCount, release);
  }

  /** Count reply bytes that the call will hold while it is in flight. */
  charge(byteCount: number): void {
    this.chargedBytes += byteCount;
    if (this.asynchronous) this.connection.inFlightBytes += byteCount;
  }

  /**
   * Memory for reply data, as long as the kernel has not taken it: `giveReplyRoom` follows.
   * @returns null when it has been taken at once; otherwise it is there when the promise resolves
   */
  takeReplyRoom(byteCount: number): Promise<void> | null {
    const share = this.connection.client?.replies;
    if (share === undefined || share.tryTake(byteCount)) return null;
    if (byteCount > share.bytesMax) throw new StorageError("EACCES", "no export admits this address");
    return new Promise((resolve) => share.whenRoom(byteCount, resolve));
  }

  giveReplyRoom(byteCount: number): void {
    this.connection.client?.replies.give(byteCount);
  }
}
