/**
 * How many may be at something at once; the others wait. Those who wait have their turns by whom they come from, one of each after the other, so
 * that nobody's thousand requests stand before somebody else's one.
 */
export class FairGate {
  #inside = 0;
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(private readonly max: number) {}

  /** @returns null: go in, at once; otherwise when it is the turn. Whoever was let in calls `leave` once. */
  enter(from: string): Promise<void> | null {
    if (this.#inside < this.max) {
      this.#inside++;
      return null;
    }
    return new Promise((resolve) => {
      const line = this.#waiting.get(from);
      if (line === undefined) this.#waiting.set(from, [resolve]);
      else line.push(resolve);
    });
  }

  leave(): void {
    for (const [from, line] of this.#waiting) {
      this.#waiting.delete(from);
      const next = line.shift();
      if (line.length > 0) this.#waiting.set(from, line);
      if (next === undefined) continue;
      next();
      return;
    }
    this.#inside--;
  }
}
