import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { StreamScanner } from "../../backup/scan.js";
import { inspectTarget, readTarget, TargetWriter } from "../../backup/target.js";
import { transferBackup } from "../../backup/transfer.js";
import type { BackupConfig } from "../../config/schema.js";
import { type CancelTimer, type Clock, wallMs } from "../../lib/clock.js";
import { operatingError, StorageError } from "../../lib/errors.js";
import { LIMITS } from "../../limits.js";
import { DueTimes } from "../due-times.js";
import type { EventLog } from "../event-log.js";
import type { BackupScheduleRow } from "../types.js";
import type { BackupAdmin } from "./backup-admin.js";
import type { BookedBackup } from "./backup-book.js";

export interface SchedulerParts {
  readonly admin: BackupAdmin;
  readonly schedules: readonly BackupConfig[];
  readonly clock: Clock;
  readonly events: EventLog;
}

interface Attempt {
  readonly failure: string;
  /** By the monotonic clock. */
  readonly notBeforeMs: number;
}

/**
 * Makes the backups that the configuration orders, one after another, and writes them itself. Of each schedule a full one comes first, then
 * incrementals, until `keep` of them make a chain; then the next chain begins. An old chain goes, as a whole, when those behind it
 * hold `keep` backups. One that failed is begun anew; what it has left is removed.
 */
export class BackupScheduler {
  readonly #failures = new Map<string, Attempt>();
  #cancel: CancelTimer | null = null;
  #ended = false;
  #working: Promise<void> = Promise.resolve();
  #pieces: AsyncGenerator<Buffer> | null = null;

  readonly #due: DueTimes;

  constructor(private readonly parts: SchedulerParts) {
    this.#due = new DueTimes(parts.clock, (to, atMs) => {
      const what = `the last backup to ${to} was made in the future, at ${new Date(atMs).toISOString()}: the clock is, or was, wrong`;
      parts.events.add({ severity: "warning", kind: "time-in-future", what, detail: { target: to } });
    });
  }

  arm(): void {
    if (this.#ended || this.parts.schedules.length === 0) return;
    this.#cancel = this.parts.clock.after(LIMITS.backupScheduleMs, () => {
      void this.review().then(() => this.arm());
    });
  }

  /** The one that is being made is broken off. */
  async stop(): Promise<void> {
    this.#ended = true;
    this.#cancel?.();
    await this.#pieces?.return(undefined);
    await this.#working;
  }

  rows(): BackupScheduleRow[] {
    return this.parts.schedules.map((schedule) => {
      const { fileSystem, to, everySeconds, keep } = schedule;
      const next = this.#mayBegin(schedule) ? this.#nextTime(schedule) : null;
      return { fileSystem, to, everySeconds, keep, next, failure: this.#failures.get(to)?.failure ?? null };
    });
  }

  /** Make what is due. Never rejects. */
  review(): Promise<void> {
    this.#working = this.#working.then(async () => {
      for (const schedule of this.parts.schedules) {
        if (this.#ended) return;
        if (this.#mayBegin(schedule) && this.#dueInMs(schedule) <= 0) await this.#attempt(schedule);
      }
    });
    return this.#working;
  }

  /** This node serves what is to be backed up. */
  #mayBegin({ fileSystem }: BackupConfig): boolean {
    return this.parts.admin.isThere(fileSystem);
  }

  #dueInMs({ to, everySeconds }: BackupConfig): number {
    const last = this.#finished(to).at(-1);
    const dueInMs = this.#due.dueInMs(to, last === undefined ? 0 : Date.parse(last.time), everySeconds * 1000);
    const failure = this.#failures.get(to);
    return failure === undefined ? dueInMs : Math.max(dueInMs, failure.notBeforeMs - this.parts.clock.monotonicMs());
  }

  /** For people. */
  #nextTime(schedule: BackupConfig): string {
    return new Date(wallMs(this.parts.clock) + Math.max(0, this.#dueInMs(schedule))).toISOString();
  }

  #finished(series: string): BookedBackup[] {
    return this.parts.admin.book.rows().filter((row) => row.series === series && row.finished);
  }

  async #attempt(schedule: BackupConfig): Promise<void> {
    const { clock, events } = this.parts;
    const { fileSystem, to, everySeconds } = schedule;
    try {
      await this.#sweep(to);
      await this.#make(schedule);
      this.#failures.delete(to);
      // From here on time passes by the monotonic clock, whatever becomes of the other one.
      this.#dueInMs(schedule);
      await this.#dropOld(schedule);
    } catch (error) {
      const expected = operatingError(error);
      if (expected === null) throw error;
      if (this.#ended) return;
      const failure = expected.message;
      const waitMs = Math.min(everySeconds * 1000, LIMITS.backupRetryMs);
      this.#failures.set(to, { failure, notBeforeMs: clock.monotonicMs() + waitMs });
      const subject = fileSystem === null ? "the shared LU" : `file system ${fileSystem}`;
      const what = `the backup of ${subject} to ${to} that is due failed: ${failure}`;
      events.add({ severity: "error", kind: "backup-failed", what, detail: { target: to } });
      await this.#sweep(to).catch(() => {});
    }
  }

  async #make(schedule: BackupConfig): Promise<void> {
    const { admin, clock } = this.parts;
    const { fileSystem, to } = schedule;
    const time = new Date(wallMs(clock)).toISOString().replace(/[-:]|\.\d+/g, "");
    const target = to.replaceAll("{time}", time);
    if ((await inspectTarget(target)).kind !== "empty") throw new StorageError("EEXIST", `${target} is there already`);
    const full = this.#chainIsOver(schedule);
    const { backup, pieces } = admin.begin({ fileSystem, full, target, series: to });
    this.#pieces = pieces;
    const writer = await TargetWriter.open(target);
    try {
      await transferBackup(pieces, writer);
    } finally {
      this.#pieces = null;
      await pieces.return(undefined);
      await writer.close();
    }
    admin.finished(backup, target, writer.byteCount);
    await new StreamScanner(readTarget(target)).run();
    admin.verified(backup);
  }

  /** It has its length, or a link of it is gone. */
  #chainIsOver({ to, keep }: BackupConfig): boolean {
    const rows = this.#finished(to);
    const chain = rows.filter((row) => row.chain === rows.at(-1)?.chain);
    return chain.length >= keep || !chain.every(({ target }) => existsSync(target));
  }

  async #dropOld({ to, keep }: BackupConfig): Promise<void> {
    const rows = this.#finished(to);
    for (let chain = rows[0]?.chain; chain !== undefined; ) {
      const behind = rows.filter((row) => row.chain !== chain);
      if (behind.length < keep) return;
      const old = rows.splice(0, rows.length, ...behind).filter((row) => row.chain === chain);
      for (const { target } of old) await rm(target, { force: true });
      this.parts.admin.book.remove(old.map(({ backup }) => backup));
      chain = rows[0]?.chain;
    }
  }

  /** What attempts that broke off have left. */
  async #sweep(series: string): Promise<void> {
    const { book } = this.parts.admin;
    const broken = book.rows().filter((row) => row.series === series && !row.finished);
    for (const { target } of broken) await rm(target, { force: true }).catch(() => {});
    book.remove(broken.map(({ backup }) => backup));
  }
}
