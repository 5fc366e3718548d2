interface Round {
  readonly done: Promise<void>;
  /** How many writes had completed when it began. */
  readonly writesBefore: number;
}

/**
 * Concurrent flushes share one. A caller may join the running one only if no write has completed since it began: it may
 * have passed what that one wrote already. Otherwise all callers wait together for the next one.
 *
 *     running   next     flush() does
 *     no        no       begin one
 *     yes       no       nothing written since it began: join it; else promise the next one
 *     any       yes      join the next one, which has not begun
 */
export class SharedFlush {
  readonly #flushNow: () => Promise<void>;
  #writes = 0;
  #running: Round | null = null;
  #next: Promise<void> | null = null;

  constructor(flushNow: () => Promise<void>) {
    this.#flushNow = flushNow;
  }

  /** A write has completed, before its caller is told. */
  wrote(): void {
    this.#writes++;
  }

  flush(): Promise<void> {
    if (this.#next !== null) return this.#next;
    if (this.#running === null) return this.#begin();
    if (this.#running.writesBefore === this.#writes) return this.#running.done;
    const begin = (): Promise<void> => this.#begin();
    this.#next = this.#running.done.then(begin, begin);
    return this.#next;
  }

  #begin(): Promise<void> {
    this.#next = null;
    const end = (): void => {
      this.#running = null;
    };
    const done = this.#flushNow().finally(end);
    this.#running = { done, writesBefore: this.#writes };
    return done;
  }
}
