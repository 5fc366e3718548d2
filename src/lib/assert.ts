/** A fact that must hold did not: our own mistake. It ends the process; the partner takes over. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/**
 * Assert what is true, in production too. `what` is a constant text: a template string costs on the hot path.
 * Bad input and failed disks are never asserted; they are a {@link ./errors.StorageError}.
 */
export function assert(ok: boolean, what: string): asserts ok {
  if (!ok) throw new AssertionError(what);
}

/** The value, where a look-up cannot fail: `noUncheckedIndexedAccess` without a cast. */
export function must<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionError(what);
  return value;
}

/** Exhaustiveness: a new member of a union does not compile until every switch answers for it. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
