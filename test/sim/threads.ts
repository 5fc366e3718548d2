interface Waiter {
  readonly go: () => void;
  readonly ifDead: () => void;
}

/** The I/O threads of a process: a request to a disk holds one until the disk answers, and who finds none waits. */
export class Threads {
  readonly #waiting: Waiter[] = [];
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  take(go: () => void, ifDead: () => void): void {
    if (this.#free === 0) {
      this.#waiting.push({ go, ifDead });
      return;
    }
    this.#free--;
    go();
  }

  giveBack(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next.go();
  }

  /** The process is gone. */
  end(): void {
    for (const { ifDead } of this.#waiting.splice(0)) ifDead();
  }
}
