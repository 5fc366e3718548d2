/**
 * How long one turn of the event loop goes on with what clients have sent. Everything that came in one chunk is answered in one piece otherwise: 700 listings of
 * a directory, 200 ms.
 */
const TURN_MS = 8;
/** And one connection of it, before others have theirs. */
export const SLICE_MS = 2;
/** While less than this was spent it is not looked when the turn ends. */
const SHORT_MS = 0.2;

/** Somebody with bytes to go on with. */
export interface Turn {
  /** Whose turn it takes: addresses have one each, however many connections they have. */
  readonly client: object;
  goOn(): void;
}

/** Divides the event loop between clients that send more than it can do at once. */
export class Turns {
  readonly #waiting = new Map<object, Turn[]>();
  #spentMs = 0;
  #scheduled = false;

  /** What comes now waits. */
  get over(): boolean {
    return this.#spentMs >= TURN_MS;
  }

  spent(ms: number): void {
    this.#spentMs += ms;
    if (this.#spentMs >= SHORT_MS) this.#schedule();
  }

  /** `goOn` is called once, in a later turn. */
  later(turn: Turn): void {
    const queue = this.#waiting.get(turn.client);
    if (queue === undefined) this.#waiting.set(turn.client, [turn]);
    else queue.push(turn);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    this.#spentMs = 0;
    while (this.#waiting.size > 0 && !this.over) this.#next();
    if (this.#waiting.size > 0) this.#schedule();
  };

  #next(): void {
    const [client, queue] = this.#waiting.entries().next().value!;
    // Behind all others, or away; whoever has more to do comes back.
    this.#waiting.delete(client);
    const turn = queue.shift();
    if (queue.length > 0) this.#waiting.set(client, queue);
    turn?.goOn();
  }
}
