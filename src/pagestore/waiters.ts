/** A promise that many callers share, and how many they are. */
export class Waiters {
  count = 0;
  readonly promise: Promise<void>;
  resolve: () => void = () => {};
  reject: (error: Error) => void = () => {};

  constructor() {
    this.promise = new Promise<void>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Whoever waits sees the rejection; nobody waiting is no reason to end the process.
    this.promise.catch(() => {});
  }

  join(): Promise<void> {
    this.count++;
    return this.promise;
  }
}

/** Wakes everybody who waits for some change of state; they look for themselves what it was. */
export class Signal {
  #waiters = new Waiters();

  wait(): Promise<void> {
    return this.#waiters.join();
  }

  raise(): void {
    const waiters = this.#waiters;
    this.#waiters = new Waiters();
    waiters.resolve();
  }
}
