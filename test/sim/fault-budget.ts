/**
 * Which faults redundancy must bear: those of one disk at a time. From its first fault until it has been rebuilt, or proven and healed, that disk
 * may have any other fault, and no other disk may have one.
 */
export class FaultBudget {
  #victim: number | null = null;
  #silent = false;

  get victim(): number | null {
    return this.#victim;
  }

  /** The one disk that may be missing: who is out, such as one that was left out for being slow, or else who has a fault. null: any. */
  mayMiss(disks: readonly { readonly number: number; readonly state: string }[]): number | null {
    const out = disks.find(({ state }) => state !== "online");
    return out === undefined ? this.#victim : out.number - 1;
  }

  /**
   * @param silent  it may leave damage that is found only by reading everything
   * @returns whether disk `index` may have a fault now; then it has
   */
  spend(index: number, silent: boolean): boolean {
    if (this.#victim !== null && this.#victim !== index) return false;
    this.#victim = index;
    this.#silent ||= silent;
    return true;
  }

  /** The disk has all that it missed. Damage that nobody knew of stays. */
  returned(): void {
    if (!this.#silent) this.restore();
  }

  /** Another disk is in its place and whole, or everything was read and healed. */
  restore(): void {
    this.#victim = null;
    this.#silent = false;
  }
}
