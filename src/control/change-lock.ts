import { StorageError } from "../lib/errors.js";
import { Mutex } from "../lib/mutex.js";

/** Operations that change the cabinet run one after another, and none after its end. */
export class ChangeLock extends Mutex {
  #ended = false;

  get ended(): boolean {
    return this.#ended;
  }

  /** @throws StorageError EBUSY after the end */
  override run<T>(action: () => Promise<T> | T): Promise<T> {
    return super.run(() => {
      if (this.#ended) throw new StorageError("EBUSY", "the daemon is shutting down");
      return action();
    });
  }

  /** What the cabinet does by itself: left undone after the end. */
  async runUnlessEnded(action: () => Promise<void>): Promise<void> {
    await super.run(() => (this.#ended ? undefined : action()));
  }

  /** The last operation; a second call waits for the first and does nothing. */
  end(action: () => Promise<void>): Promise<void> {
    return super.run(async () => {
      if (this.#ended) return;
      this.#ended = true;
      await action();
    });
  }
}
