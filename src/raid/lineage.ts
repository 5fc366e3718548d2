/** From one assembly to the next, as far as anything was written: who wrote generations from `generation` on. */
export interface Life {
  /** Random: two halves of a group that were used apart have the same numbers, and not the same ids. */
  readonly id: string;
  /** Its first. */
  readonly generation: number;
}

/**
 * Where a group's labels come from, and which members have all of it.
 *
 * A generation is raised in two steps. First the label with the next generation is made durable on every member that takes writes; then once
 * more, with `wholeFrom` at that generation. Nothing that the raise announces (the first write of a life, the answer to a flush that a lost member
 * has missed) happens before the second step is durable everywhere. So:
 *
 *   a label of a generation below `wholeFrom`   its disk lacks what came since: it was put back as it was then, whatever it says (I-2)
 *   between `wholeFrom` and `generation`        a crash has left the raise unfinished: nothing depends on it, its disk is whole
 */
export interface Lineage {
  /** The lowest generation of its own label that a member may have. */
  readonly wholeFrom: number;
  /** The last so many, oldest first. */
  readonly lives: readonly Life[];
}

/** Of labels from before there were lives, and of groups that have none. */
export const NO_LINEAGE: Lineage = { wholeFrom: 0, lives: [] };

/** What of a label tells where it comes from. */
export interface Lineal {
  readonly generation: number;
  readonly lineage: Lineage;
}

/** A label of generation 0 is on a disk that is about to become a member: it is as whole as those that it was made by. */
function carried({ generation, lineage }: Lineal): number {
  return generation === 0 ? lineage.wholeFrom : generation;
}

/** Whether a disk with the label `own` lacks writes of generation `from` or of earlier ones. */
export function isBehind(own: Lineal, from: number): boolean {
  return carried(own) < from;
}

/**
 * Whether a disk with the label `theirs` was used without those of `ours`: it has writes that they lack, and they have others. A label counts as far as
 * it is confirmed: of a raise that a crash cut short nobody knows.
 */
export function wentApart(ours: Lineal, theirs: Lineal): boolean {
  const { lives, wholeFrom } = theirs.lineage;
  const life = lives.findLast(({ generation }) => generation <= wholeFrom);
  const known = ours.lineage.lives;
  // Of before there were lives: numbers are all there is.
  if (known.length === 0) return lives.length > 0 || theirs.generation > ours.generation;
  // Either from before there were lives, or its first life has written nothing yet.
  if (life === undefined) return lives.length === 0 && theirs.generation >= known[0]!.generation;
  const at = known.findIndex(({ id }) => id === life.id);
  // Older than what is remembered it cannot be told apart from one that we come from.
  if (at < 0) return wholeFrom >= known[0]!.generation;
  const next = known[at + 1];
  return next !== undefined && wholeFrom >= next.generation;
}
