/**
 * What every layer may say: fields first, then a short constant text (pino's call shape, so a pino logger fits as it is).
 * error = someone must act, warn = may become one, info = rare changes of state, debug = per request.
 */
export interface Logger {
  error(fields: object, what: string): void;
  warn(fields: object, what: string): void;
  info(fields: object, what: string): void;
  debug(fields: object, what: string): void;
}

function nothing(): void {}

/** For tests and tools. */
export const SILENT: Logger = { error: nothing, warn: nothing, info: nothing, debug: nothing };
