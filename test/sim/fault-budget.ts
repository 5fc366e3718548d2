/**
 * Which faults redundancy must bear: those of one disk at a time. From its first fault until it has been rebuilt, or proven and healed, that disk
 * may have any other fault, and no other disk may have one.
 */
export class FaultBudget {
  #victim: number | null = null;

  get victim(): number | null {
    return this.#victim;
  }

  /** @returns whether disk `index` may have a fault now; then it has */
  spend(index: number): boolean {
    if (this.#victim !== null && this.#victim !== index) return false;
    this.#victim = index;
    return true;
  }

  /** Redundancy is whole again. */
  restore(): void {
    this.#victim = null;
  }
}
