import { type ProgressTarget, ProgressView } from "./progress.js";

const REDRAW_MS = 200;

/** A bar on standard error for work that this command does by itself; nothing where nobody looks on. */
export class ByteProgress {
  readonly #view: ProgressView | null;
  readonly #startedMs = performance.now();
  #drawnMs = Number.NEGATIVE_INFINITY;

  constructor(private readonly kind: string) {
    const shown = process.stderr.isTTY === true && process.env.TERM !== "dumb";
    this.#view = shown ? new ProgressView(STANDARD_ERROR) : null;
  }

  /** @param totalBytes  what is expected */
  show(doneBytes: number, totalBytes: number): void {
    const now = performance.now();
    if (this.#view === null || now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    const bytesPerSecond = (doneBytes * 1000) / Math.max(1, now - this.#startedMs);
    const leftBytes = Math.max(0, totalBytes - doneBytes);
    const secondsLeft = bytesPerSecond > 0 ? leftBytes / bytesPerSecond : null;
    const { kind } = this;
    this.#view.show({ kind, doneBytes, totalBytes, state: "running", bytesPerSecond, secondsLeft, found: 0 });
  }

  end(): void {
    this.#view?.end();
  }
}

const STANDARD_ERROR: ProgressTarget = {
  write: (text) => void process.stderr.write(text),
  terminal: true,
  columns: () => process.stderr.columns ?? 80,
  nowMs: () => performance.now(),
};
