/** A part of the node that can fail while the others go on. */
export interface PartRow {
  /** A short constant word, such as `records`. */
  readonly part: string;
  /** What is wrong with it, in a sentence; null: nothing. */
  readonly problem: string | null;
}

/** Parts that are asked how they are when somebody wants to know. */
export class PartHealth {
  readonly #parts = new Map<string, () => string | null>();

  /** @param problem  answers from memory, and throws nothing */
  watch(part: string, problem: () => string | null): void {
    this.#parts.set(part, problem);
  }

  rows(): PartRow[] {
    return [...this.#parts].map(([part, problem]) => ({ part, problem: problem() }));
  }

  problems(): string[] {
    return this.rows().flatMap(({ problem }) => problem ?? []);
  }
}
