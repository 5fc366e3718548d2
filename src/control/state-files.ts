import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { CancelTimer, Clock } from "../lib/clock.js";
import { messageOf } from "../lib/errors.js";
import { jsonText, replaceFile } from "../lib/json-file.js";
import { makeFolder } from "../lib/make-folder.js";
import type { EventLog } from "./event-log.js";

const RETRY_MS = 5_000;

interface Waiting {
  /** What it is, for people. */
  readonly what: string;
  readonly text: string;
}

/**
 * Small files of the state directory. None of them is needed to serve: what cannot be written now (no room, read-only, no right) is told, kept, and
 * written when that is possible again. Whoever reads through here sees what was to be written.
 */
export class StateFiles {
  readonly #waiting = new Map<string, Waiting>();
  #cancel: CancelTimer | null = null;
  #trouble: string | null = null;
  #ended = false;

  constructor(
    private readonly clock: Clock,
    private readonly events: EventLog,
  ) {}

  /** What could not be written, and why; null: all is. */
  get trouble(): string | null {
    return this.#trouble;
  }

  /** Undefined when there is none. @throws the error of open(2) or read(2) */
  read(file: string): string | undefined {
    return this.#waiting.get(file)?.text ?? (existsSync(file) ? readFileSync(file, "utf8") : undefined);
  }

  /** Undefined when there is none, or it cannot be read or is not JSON: then it is begun anew. */
  readJson(file: string): unknown {
    try {
      const text = this.read(file);
      return text === undefined ? undefined : JSON.parse(text);
    } catch {
      return undefined;
    }
  }

  /** In the place of the one that is there: whoever reads it sees the old one or the new one, whole. Not flushed. */
  writeJson(file: string, what: string, value: unknown): void {
    this.write(file, what, jsonText(value));
  }

  write(file: string, what: string, text: string): void {
    this.#waiting.set(file, { what, text });
    this.#writeAll();
  }

  /** The last attempt. */
  end(): void {
    this.#writeAll();
    this.#ended = true;
    this.#cancel?.();
  }

  #writeAll(): void {
    let problem: string | null = null;
    for (const [file, waiting] of this.#waiting) {
      try {
        makeFolder(path.dirname(file));
        replaceFile(file, waiting.text);
        this.#waiting.delete(file);
      } catch (error) {
        problem ??= `${waiting.what} cannot be written (${messageOf(error)}): it is kept in memory and tried again`;
      }
    }
    this.#tell(problem);
    if (problem !== null) this.#later();
  }

  #later(): void {
    if (this.#cancel !== null || this.#ended) return;
    this.#cancel = this.clock.after(RETRY_MS, () => {
      this.#cancel = null;
      this.#writeAll();
    });
  }

  #tell(problem: string | null): void {
    const before = this.#trouble;
    this.#trouble = problem;
    if (problem !== null && before === null) {
      this.events.add({ severity: "error", kind: "state-not-written", what: problem });
    } else if (problem === null && before !== null) {
      this.events.add({
        severity: "info",
        kind: "state-written",
        what: "the files of the state directory are written again",
      });
    }
  }
}
