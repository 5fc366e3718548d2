import { assert, must } from "../lib/assert.js";
import { crc32c } from "../lib/crc32c.js";
import { StorageError } from "../lib/errors.js";
import { Mutex } from "../lib/mutex.js";
import { BLOCK_BYTES } from "../lib/units.js";
import {
  DATA,
  ENTRIES_MAX,
  encodeHeader,
  type JournalHeader,
  MOVED,
  PARITY,
  putEntry,
  REVOKE,
  sealRecord,
} from "./journal-format.js";
import { LAYOUT } from "./layout.js";
import type { Member } from "./member.js";

/** Where the ring begins on a member, after the two header blocks. */
export const RING_START = LAYOUT.journal + 2 * BLOCK_BYTES;

export interface JournalOptions {
  readonly groupUuid: string;
  readonly members: readonly Member[];
  readonly journalBytes: number;
  /** Two buffers in the arena; the size of one is the largest record. */
  readonly staging: readonly [Buffer, Buffer];
  /** One block in the arena. */
  readonly block: Buffer;
  /** Throws ESTALE when this node is no longer the owner; asked before every write. */
  readonly guard: () => void;
  readonly epoch: () => number;
  readonly generation: () => number;
  /** Awaited, unless null, before the first write (GroupCore.writable). */
  readonly writable: () => Promise<void> | null;
  readonly onRecord: () => void;
}

/** A record that is being put together in memory. */
export class OpenRecord {
  entryCount = 0;
  payloadBlocks = 0;
  seq = 0;
  /** Takes no more data: some of what it holds was revoked, and a revoke knows records only. */
  sealed = false;

  constructor(readonly buffer: Buffer) {}

  get empty(): boolean {
    return this.entryCount === 0;
  }

  fits(entries: number, blocks: number): boolean {
    const room = this.buffer.length / BLOCK_BYTES - 1;
    return this.entryCount + entries <= ENTRIES_MAX && this.payloadBlocks + blocks <= room;
  }

  /** @param sources  adjacent blocks, each or several in one buffer; copied */
  addData(member: number, memberBlock: number, sources: readonly Buffer[]): void {
    this.#put(DATA, member, memberBlock, sources, 0);
  }

  /** The parity of these columns with the data of all records up to `upToSeq`, which may be this one. */
  addParity(member: number, memberBlock: number, source: Buffer, upToSeq: number): void {
    this.#put(PARITY, member, memberBlock, [source], upToSeq);
  }

  /** For replay only when the LU's label says that so many bytes are moved. */
  addMoved(member: number, memberBlock: number, source: Buffer, movedBytes: number): void {
    this.#put(MOVED, member, memberBlock, [source], movedBytes);
  }

  #put(kind: number, member: number, memberBlock: number, sources: readonly Buffer[], upToSeq: number): void {
    let blocks = 0;
    for (const source of sources) {
      const count = source.length / BLOCK_BYTES;
      assert(this.fits(1, blocks + count), "the caller has made sure that it fits");
      source.copy(this.buffer, (1 + this.payloadBlocks + blocks) * BLOCK_BYTES);
      blocks += count;
    }
    putEntry(this.buffer, this.entryCount, { kind, member, memberBlock, blockCount: blocks, upToSeq });
    this.entryCount++;
    this.payloadBlocks += blocks;
  }

  revoke({ memberBlock, blockCount, upToSeq }: Revoke): void {
    putEntry(this.buffer, this.entryCount, { kind: REVOKE, member: 0, memberBlock, blockCount, upToSeq });
    this.entryCount++;
  }

  reset(seq: number): void {
    this.sealed = false;
    this.entryCount = 0;
    this.payloadBlocks = 0;
    this.seq = seq;
  }
}

/** Relief that does not make room is not going to. */
const RELIEF_TRIES = 8;

/** Blocks of which the records up to `upToSeq` say nothing any more. */
export interface Revoke {
  readonly memberBlock: number;
  readonly blockCount: number;
  readonly upToSeq: number;
}

/** A record in the ring: where it begins, counted in bytes since the ring was new (modulo the ring's size: its offset). */
export interface Placed {
  readonly seq: number;
  readonly at: number;
}

/**
 * The group journal: redo records of partial stripes on two members each, taking turns. Records are written one after the other, so
 * the valid ones are a chain of rising `seq` from the tail. `advance` moves the tail when everything before it is in place and flushed.
 */
export class Journal {
  readonly ringBytes: number;
  readonly #options: JournalOptions;
  #open: OpenRecord;
  #spare: OpenRecord | null;
  #nextSeq = 1;
  #durableSeq = 0;
  /** Of the newest record in the ring. */
  #previousSeq = 0;
  #head = 0;
  #tail = 0;
  #tailSeq = 1;
  #headerSequence = 0;
  #turn = 0;
  #writing: Promise<void> | null = null;
  #broken: unknown = null;
  /** Replay must find the records from this one on, whoever else needs none of them. */
  #pinnedSeq = Number.POSITIVE_INFINITY;
  readonly #placed: Placed[] = [];
  readonly #revokes: Revoke[] = [];
  readonly #headerLock = new Mutex();
  /** Moves the tail as far as it goes (stripe-cache.ts); set once. */
  onFull: () => Promise<void> = async () => {};

  constructor(options: JournalOptions) {
    this.#options = options;
    this.ringBytes = options.journalBytes - 2 * BLOCK_BYTES;
    this.#open = new OpenRecord(options.staging[0]);
    this.#spare = new OpenRecord(options.staging[1]);
    this.#open.reset(this.#nextSeq++);
  }

  get durableSeq(): number {
    return this.#durableSeq;
  }

  /** The oldest record that replay would still apply. Every record from here on may be read after a crash. */
  get tailSeq(): number {
    return this.#tailSeq;
  }

  /** The seq of the next record to be begun: nothing before it is undecided. */
  get openSeq(): number {
    return this.#open.seq;
  }

  /** From now on the tail stays before what is added next, until `unpin`. */
  pin(): void {
    this.#pinnedSeq = Math.min(this.#pinnedSeq, this.#open.seq);
  }

  unpin(): void {
    this.#pinnedSeq = Number.POSITIVE_INFINITY;
  }

  /** Larger records from here on; both buffers in the arena. Nothing is added meanwhile, but revokes may be. */
  async enlarge([first, second]: readonly [Buffer, Buffer]): Promise<void> {
    while (this.#writing !== null || !this.#open.empty) await this.commit();
    const { seq } = this.#open;
    this.#open = new OpenRecord(first);
    this.#open.reset(seq);
    this.#spare = new OpenRecord(second);
  }

  /** The largest record, its head included. */
  get recordBytes(): number {
    return this.#open.buffer.length;
  }

  get usedBytes(): number {
    return this.#head - this.#tail;
  }

  /** The open record, when it has room; otherwise null: await `makeRoom` and ask again. Fill it before the next `await`. */
  tryBegin(entries: number, blocks: number): OpenRecord | null {
    assert(blocks < this.#open.buffer.length / BLOCK_BYTES, "no stripe is larger than a record");
    return !this.#open.sealed && this.#open.fits(entries, blocks) ? this.#open : null;
  }

  async makeRoom(): Promise<void> {
    this.#throwIfBroken();
    if (this.#writing !== null) await this.#writing;
    else if (!this.#open.empty) await this.#startWrite();
  }

  /** On the disk with the next commit. What is written to these blocks later goes into a later record. */
  revoke(revoke: Revoke): void {
    assert(revoke.upToSeq <= this.#open.seq, "only what was recorded can be revoked");
    if (revoke.upToSeq === this.#open.seq) this.#open.sealed = true;
    this.#revokes.push(revoke);
  }

  /** Everything added and revoked before this call is durable when it resolves. Callers share records. */
  async commit(): Promise<void> {
    this.#throwIfBroken();
    while (this.#revokes.length > 0) await this.#takeRevokes();
    const wanted = this.#open.empty ? this.#open.seq - 1 : this.#open.seq;
    await this.#durable(wanted);
  }

  /** Wait until record `seq`, which has been filled, is durable. */
  async durable(seq: number): Promise<void> {
    await this.#durable(seq);
  }

  async #durable(wanted: number): Promise<void> {
    while (this.#durableSeq < wanted) {
      this.#throwIfBroken();
      await (this.#writing ?? this.#startWrite());
    }
  }

  #throwIfBroken(): void {
    if (this.#broken !== null) throw this.#broken;
  }

  async #takeRevokes(): Promise<void> {
    while (this.#revokes.length > 0 && this.#open.fits(1, 0)) {
      this.#open.revoke(this.#revokes.shift()!);
    }
    if (this.#revokes.length > 0) await this.makeRoom();
  }

  #startWrite(): Promise<void> {
    const record = this.#open;
    this.#open = must(this.#spare, "one record is written at a time");
    this.#spare = null;
    this.#open.reset(this.#nextSeq++);
    this.#writing = this.#write(record)
      .catch((error: unknown) => {
        // What memory says of the journal may not be so on the disks: nothing may build on it any more.
        this.#broken = error;
        throw error;
      })
      .finally(() => {
        this.#spare = record;
        this.#writing = null;
      });
    return this.#writing;
  }

  async #write(record: OpenRecord): Promise<void> {
    const byteCount = (1 + record.payloadBlocks) * BLOCK_BYTES;
    const at = await this.#place(byteCount);
    await this.#options.writable();
    this.#options.guard();
    const image = record.buffer.subarray(0, byteCount);
    sealRecord(record.buffer, this.#options.groupUuid, {
      seq: record.seq,
      previousSeq: this.#previousSeq,
      ownerEpoch: this.#options.epoch(),
      generation: this.#options.generation(),
      entryCount: record.entryCount,
      payloadBlocks: record.payloadBlocks,
      payloadChecksum: crc32c(image.subarray(BLOCK_BYTES)),
    });
    await this.#writeTwice(image, RING_START + (at % this.ringBytes));
    this.#placed.push({ seq: record.seq, at });
    this.#head = at + byteCount;
    this.#durableSeq = record.seq;
    this.#previousSeq = record.seq;
    this.#options.onRecord();
  }

  /** Where a record goes; waits until the ring has room for it. */
  async #place(byteCount: number): Promise<number> {
    for (let tries = 0; ; tries++) {
      const rest = this.ringBytes - (this.#head % this.ringBytes);
      const at = rest >= byteCount ? this.#head : this.#head + rest;
      if (at + byteCount - this.#tail <= this.ringBytes) return at;
      if (tries === RELIEF_TRIES) throw new StorageError("EIO", "the journal is full and cannot be relieved");
      await this.onFull();
    }
  }

  /** Two copies on members that take it; a member that does not is failed by its write, and the next in turn is asked. */
  async #writeTwice(image: Buffer, position: number): Promise<void> {
    const { members } = this.#options;
    const written = new Set<Member>();
    for (;;) {
      let online = members.filter((member) => member.online && !written.has(member));
      const missing = 2 - [...written].filter((member) => member.online || member.covered).length;
      if (missing <= 0) return;
      // With one lost while another is replaced: after a crash only the new one tells, if anybody does.
      if (online.length < missing) online = members.filter((m) => (m.online || m.covered) && !written.has(m));
      if (online.length < missing) throw new StorageError("EIO", "the journal needs two members that take writes");
      const chosen = Array.from({ length: missing }, (_, i) => online[(this.#turn + i) % online.length]!);
      this.#turn++;
      const results = await Promise.all(chosen.map((member) => member.writeThrough([image], position)));
      chosen.forEach((member, i) => void (results[i] === true && written.add(member)));
    }
  }

  /**
   * Drop records before `seq`: what they hold is in place and flushed. Durable on all members when it resolves.
   * @param seq  Infinity-free: at most `openSeq`
   */
  async advance(seq: number): Promise<void> {
    await this.#headerLock.run(async () => {
      const upTo = Math.min(seq, this.#pinnedSeq);
      if (upTo <= this.#tailSeq) return;
      while (this.#placed.length > 0 && this.#placed[0]!.seq < upTo) this.#placed.shift();
      const tail = this.#placed[0]?.at ?? this.#head;
      const tailSeq = this.#placed[0]?.seq ?? this.#durableSeq + 1;
      await this.#writeHeader(tailSeq, tail);
      this.#tail = tail;
      this.#tailSeq = tailSeq;
    });
  }

  async #writeHeader(tailSeq: number, tail: number): Promise<void> {
    await this.#options.writable();
    this.#options.guard();
    const { block, groupUuid, members } = this.#options;
    const sequence = ++this.#headerSequence;
    encodeHeader(block, groupUuid, {
      sequence,
      tailSeq,
      tailOffset: tail % this.ringBytes,
      ownerEpoch: this.#options.epoch(),
    });
    const position = LAYOUT.journal + (sequence % 2) * BLOCK_BYTES;
    await Promise.all(members.map((member) => member.writeThrough([block], position)));
    if (!members.some((member) => member.online)) throw new StorageError("EIO", "no member took the journal's header");
  }

  /** Write both header blocks as they are, for a member that has none yet. */
  async restate(): Promise<void> {
    await this.#headerLock.run(async () => {
      for (let i = 0; i < 2; i++) await this.#writeHeader(this.#tailSeq, this.#tail);
    });
  }

  /** Go on where a clean stop left off: the journal is empty, and nothing is written before the first record. */
  resume(header: JournalHeader): void {
    this.#headerSequence = header.sequence;
    this.#begin(header.tailSeq, header.tailOffset);
  }

  /**
   * Go on behind the records that a crash left, which stay as they are until `advance` drops them.
   * @param records  all of the chain, oldest first; at least one
   * @param seq      of the next record; above every one that was ever written
   */
  async continue(records: readonly Placed[], seq: number, end: number, header: JournalHeader): Promise<void> {
    const [first, last] = [records[0]!, records[records.length - 1]!];
    this.#headerSequence = header.sequence;
    this.#begin(seq, first.at);
    this.#previousSeq = last.seq;
    this.#tailSeq = first.seq;
    this.#head = end;
    this.#placed.push(...records);
    await this.restate();
  }

  #begin(seq: number, offset: number): void {
    this.#durableSeq = seq - 1;
    this.#previousSeq = seq - 1;
    this.#nextSeq = seq + 1;
    this.#open.reset(seq);
    this.#head = offset;
    this.#tail = offset;
    this.#tailSeq = seq;
  }

  /** Begin an empty journal at `seq`, of a new group or after replay, and make that durable. */
  async restart(seq: number, offset: number, old: JournalHeader | null): Promise<void> {
    this.#headerSequence = old?.sequence ?? 0;
    this.#begin(seq, offset);
    // Both blocks: an older header must not be found beside this one's damage.
    await this.#writeHeader(seq, offset);
    await this.#writeHeader(seq, offset);
  }
}
