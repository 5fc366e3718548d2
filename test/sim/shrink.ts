import { type RunFailure, type RunOptions, runSeed } from "./run.js";

/** Runs that one failure is worth. */
const TRIES_MAX = 300;

export interface Shrunk {
  /** The steps that it takes, by number. */
  readonly only: readonly number[];
  readonly failure: RunFailure;
  readonly tries: number;
}

/**
 * Look for a shorter schedule that fails as well: leave out halves, quarters and so on of the steps, then single ones, as long as it still
 * fails in some way (delta debugging). Each step draws its own randomness, so that it stays what it was when others are gone.
 */
export async function shrink(options: RunOptions, failure: RunFailure): Promise<Shrunk> {
  const last = failure.step < 0 ? options.steps : failure.step + 1;
  const all = options.only ?? Array.from({ length: last }, (_, i) => i);
  const search = new Search(
    options,
    all.filter((step) => step < last),
    failure,
  );
  await search.run();
  return { only: search.steps, failure: search.failure, tries: search.tries };
}

class Search {
  tries = 0;

  constructor(
    private readonly options: RunOptions,
    public steps: readonly number[],
    public failure: RunFailure,
  ) {}

  async run(): Promise<void> {
    for (let size = Math.ceil(this.steps.length / 2); size >= 1; ) {
      const shorter = await this.#without(size);
      if (!shorter && size === 1) return;
      if (!shorter) size = Math.ceil(size / 2);
      size = Math.min(size, Math.max(1, Math.ceil(this.steps.length / 2)));
    }
  }

  /** Leave out one part of so many steps. @returns false when none can be spared */
  async #without(size: number): Promise<boolean> {
    for (let from = 0; from < this.steps.length && this.tries < TRIES_MAX; from += size) {
      const only = [...this.steps.slice(0, from), ...this.steps.slice(from + size)];
      this.tries++;
      const { failure } = await runSeed({ ...this.options, only });
      if (failure === null) continue;
      this.steps = only;
      this.failure = failure;
      return true;
    }
    return false;
  }
}
