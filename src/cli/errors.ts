/** Said to the user in one line; the command exits with status 1. */
export class CliError extends Error {
  override name = "CliError";
  constructor(
    message: string,
    readonly code?: string,
  ) {
    super(message);
  }
}

/** The command was called wrongly: exit status 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
