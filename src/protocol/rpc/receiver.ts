import { Socket } from "node:net";
import { SOCKET_CHUNK_BYTES } from "../limits.js";
import type { BufferPool } from "./buffer-pool.js";
import type { MemoryAccount } from "./reply-queue.js";

/** A buffer that a socket was read into. Whoever needs its bytes beyond the callback holds it; after the last release it is used again. */
export class Chunk {
  #holds = 0;
  #retired = false;

  constructor(
    readonly buffer: Buffer,
    private readonly pool: BufferPool | null,
    /** Where it is counted while it is held, and the socket has another one. */
    private readonly account: MemoryAccount | null,
  ) {}

  get held(): boolean {
    return this.#holds > 0;
  }

  hold(): void {
    this.#holds++;
  }

  release(): void {
    this.#holds--;
    this.#recycle();
  }

  /** The socket reads into another one from now on. */
  retire(): void {
    this.#retired = true;
    this.account?.take(this.buffer.length);
    this.#recycle();
  }

  #recycle(): void {
    if (!this.#retired || this.#holds > 0) return;
    this.account?.give(this.buffer.length);
    this.pool?.release(this.buffer);
  }
}

/** Bytes that belong to nobody else: holding them costs nothing. */
export const UNPOOLED = new Chunk(Buffer.alloc(0), null, null);

/** @param bytes  what came: a view into `chunk`, valid until it is used again */
export type TakeBytes = (bytes: Buffer, chunk: Chunk) => void;

interface AcceptedSocket {
  _handle: { useUserBuffer?: unknown; writeQueueSize?: unknown } | null;
}

/**
 * Read an accepted socket into pooled buffers. Node allocates 64 KiB for every read otherwise, and V8 counts that: a client that writes
 * made it collect its whole heap every 30 MB, a quarter of the server's CPU (native-notes/socket-buffers.md). The documented way to give a
 * socket a buffer (`onread`) exists where a Socket is constructed, and accepted ones come constructed; so another is made on its handle,
 * and the accepted one only counts for its server. Where Node does not have such a handle, the ordinary way is taken.
 * @param accepted  of a server with pauseOnConnect: nothing was read yet
 * @param account  of buffers that requests hold
 * @returns the socket to use from now on
 */
export function receive(accepted: Socket, pool: BufferPool, account: MemoryAccount, take: TakeBytes): Socket {
  const inside = accepted as unknown as AcceptedSocket;
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== "function") {
    accepted.on("data", (bytes: Buffer) => take(bytes, UNPOOLED));
    accepted.resume();
    return accepted;
  }
  let chunk = new Chunk(pool.acquire(SOCKET_CHUNK_BYTES), pool, account);
  const next = (): Buffer => {
    if (chunk.held) {
      chunk.retire();
      chunk = new Chunk(pool.acquire(SOCKET_CHUNK_BYTES), pool, account);
    }
    return chunk.buffer;
  };
  const callback = (byteCount: number): boolean => {
    take(chunk.buffer.subarray(0, byteCount), chunk);
    return true;
  };
  inside._handle = null;
  const options = { handle, allowHalfOpen: true, onread: { buffer: next, callback } };
  const socket = new Socket(options as ConstructorParameters<typeof Socket>[0]);
  socket.on("close", () => {
    chunk.retire();
    accepted.destroy();
  });
  socket.resume();
  return socket;
}

/** Bytes that the kernel has not taken of what the socket was given last; 0 where Node does not say. */
export function untakenBytes(socket: Socket): number {
  const size = (socket as unknown as AcceptedSocket)._handle?.writeQueueSize;
  return typeof size === "number" ? size : 0;
}
