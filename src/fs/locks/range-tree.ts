import { must } from "../../lib/assert.js";
import { type ByteRange, overlaps } from "./range.js";

/** What a tree holds: a range of one owner. `who` is one object for each owner. */
export interface OwnedRange extends ByteRange {
  readonly id: number;
  readonly who: object;
}

class Node<T extends OwnedRange> {
  left: Node<T> | null = null;
  right: Node<T> | null = null;
  height = 1;
  /** The highest end of all ranges from here down, and whose it is. */
  last: bigint;
  who: object;
  /** The highest end of those of anybody else; -1 when there are none. */
  othersLast = -1n;

  constructor(public item: T) {
    this.last = item.last;
    this.who = item.who;
  }

  /** Where the ranges of everybody but `who` end, at most. */
  lastWithout(who: object): bigint {
    return this.who === who ? this.othersLast : this.last;
  }
}

/**
 * Ranges that may overlap, by where they begin: a balanced tree (AVL) that knows at each node how far the ranges below it reach, and how far those of
 * others than the one that reaches farthest. So "is anything of somebody else in the way" costs the height of the tree, whatever a client has
 * locked: a thousand ranges of its own within the one it asks for, or a thousand of others beside it. A scan would cost their number.
 */
export class RangeTree<T extends OwnedRange> {
  #root: Node<T> | null = null;
  #size = 0;
  #looks = 0;

  get size(): number {
    return this.#size;
  }

  /** Nodes that were looked at so far: what the work is measured by. */
  get looks(): number {
    return this.#looks;
  }

  add(item: T): void {
    this.#root = this.#insert(this.#root, item);
    this.#size++;
  }

  /** It is there. */
  remove(item: T): void {
    this.#root = this.#without(must(this.#root, "what is removed was there"), item);
    this.#size--;
  }

  /** The first range to begin that overlaps `range` and is not of `who`. */
  findOthers(range: ByteRange, who: object): T | null {
    return this.#findOthers(this.#root, range, who);
  }

  /** All in the order of where they begin. */
  *all(): Generator<T> {
    const above: Node<T>[] = [];
    let node = this.#root;
    for (;;) {
      for (; node !== null; node = node.left) above.push(node);
      const next = above.pop();
      if (next === undefined) return;
      yield next.item;
      node = next.right;
    }
  }

  #findOthers(node: Node<T> | null, range: ByteRange, who: object): T | null {
    if (node === null) return null;
    this.#looks++;
    if (node.lastWithout(who) < range.first) return null;
    // When what reaches farthest to the left begins behind the range, so does everything from here on: one way down is looked at.
    const found = this.#findOthers(node.left, range, who);
    if (found !== null) return found;
    const { item } = node;
    if (item.first > range.last) return null;
    return item.who !== who && overlaps(item, range) ? item : this.#findOthers(node.right, range, who);
  }

  #insert(node: Node<T> | null, item: T): Node<T> {
    if (node === null) return new Node(item);
    this.#looks++;
    if (isBefore(item, node.item)) node.left = this.#insert(node.left, item);
    else node.right = this.#insert(node.right, item);
    return balanced(node);
  }

  #without(node: Node<T>, item: T): Node<T> | null {
    this.#looks++;
    if (item === node.item) {
      if (node.left === null) return node.right;
      if (node.right === null) return node.left;
      node.item = firstOf(node.right);
      node.right = this.#without(node.right, node.item);
    } else if (isBefore(item, node.item)) {
      node.left = this.#without(must(node.left, "what is removed was there"), item);
    } else {
      node.right = this.#without(must(node.right, "what is removed was there"), item);
    }
    return balanced(node);
  }
}

function isBefore(a: OwnedRange, b: OwnedRange): boolean {
  return a.first === b.first ? a.id < b.id : a.first < b.first;
}

function firstOf<T extends OwnedRange>(node: Node<T>): T {
  let at = node;
  while (at.left !== null) at = at.left;
  return at.item;
}

const heightOf = (node: Node<OwnedRange> | null): number => node?.height ?? 0;

/** What is below has changed. */
function renew<T extends OwnedRange>(node: Node<T>): void {
  const { left, right, item } = node;
  node.height = 1 + Math.max(heightOf(left), heightOf(right));
  let { last, who } = item;
  if (left !== null && left.last > last) ({ last, who } = left);
  if (right !== null && right.last > last) ({ last, who } = right);
  let others = item.who === who ? -1n : item.last;
  if (left !== null && left.lastWithout(who) > others) others = left.lastWithout(who);
  if (right !== null && right.lastWithout(who) > others) others = right.lastWithout(who);
  node.last = last;
  node.who = who;
  node.othersLast = others;
}

function balanced<T extends OwnedRange>(node: Node<T>): Node<T> {
  const lean = heightOf(node.left) - heightOf(node.right);
  if (lean > 1) {
    const left = must(node.left, "the higher side is there");
    if (heightOf(left.left) < heightOf(left.right)) node.left = turnLeft(left);
    return turnRight(node);
  }
  if (lean < -1) {
    const right = must(node.right, "the higher side is there");
    if (heightOf(right.right) < heightOf(right.left)) node.right = turnRight(right);
    return turnLeft(node);
  }
  renew(node);
  return node;
}

function turnRight<T extends OwnedRange>(node: Node<T>): Node<T> {
  const up = must(node.left, "what comes up is there");
  node.left = up.right;
  up.right = node;
  renew(node);
  renew(up);
  return up;
}

function turnLeft<T extends OwnedRange>(node: Node<T>): Node<T> {
  const up = must(node.right, "what comes up is there");
  node.right = up.left;
  up.left = node;
  renew(node);
  renew(up);
  return up;
}
