import { Socket } from "node:net";
import { KIB } from "../../lib/units.js";
import type { BufferPool } from "./buffer-pool.js";

/** What one read of a socket may bring: a size class of the pool. */
const CHUNK_BYTES = 64 * KIB;

/** A buffer that a socket was read into. Whoever needs its bytes beyond the callback holds it; after the last release it is used again. */
export class Chunk {
  #holds = 0;
  #retired = false;

  constructor(
    readonly buffer: Buffer,
    private readonly pool: BufferPool | null,
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
    this.#recycle();
  }

  #recycle(): void {
    if (this.#retired && this.#holds === 0) this.pool?.release(this.buffer);
  }
}

/** Bytes that belong to nobody else: holding them costs nothing. */
export const UNPOOLED = new Chunk(Buffer.alloc(0), null);

/** @param bytes  what came: a view into `chunk`, valid until it is used again */
export type TakeBytes = (bytes: Buffer, chunk: Chunk) => void;

interface AcceptedSocket {
  _handle: { useUserBuffer?: unknown } | null;
}

/**
 * Read an accepted socket into pooled buffers. Node allocates 64 KiB for every read otherwise, and V8 counts that: a client that writes
 * made it collect its whole heap every 30 MB, a quarter of the server's CPU (native-notes/socket-buffers.md). The documented way to give a
 * socket a buffer (`onread`) exists where a Socket is constructed, and accepted ones come constructed; so another is made on its handle,
 * and the accepted one only counts for its server. Where Node does not have such a handle, the ordinary way is taken.
 * @param accepted  of a server with pauseOnConnect: nothing was read yet
 * @returns the socket to use from now on
 */
export function receive(accepted: Socket, pool: BufferPool, take: TakeBytes): Socket {
  const inside = accepted as unknown as AcceptedSocket;
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== "function") {
    accepted.on("data", (bytes: Buffer) => take(bytes, UNPOOLED));
    accepted.resume();
    return accepted;
  }
  let chunk = new Chunk(pool.acquire(CHUNK_BYTES), pool);
  const next = (): Buffer => {
    if (chunk.held) {
      chunk.retire();
      chunk = new Chunk(pool.acquire(CHUNK_BYTES), pool);
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
