import { InvalidArgumentError } from "commander";

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, min: 60, h: 3600, d: 86_400, w: 604_800 };

/** `8 s`, `3 min 20 s`, `2 h 5 min`, `1 d 4 h`: the two largest units. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86_400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86_400, "d", 3600, "h");
}

function two(seconds: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${largeName}${rest === 0 ? "" : ` ${rest} ${smallName}`}`;
}

/** `90s`, `30m`, `12h`, `7d`, `2w`, or `never` (0). For commander: what it throws is wrong usage. @returns seconds */
export function durationArgument(text: string): number {
  if (text === "never") return 0;
  const match = /^(\d{1,9})\s*(s|m|min|h|d|w)$/.exec(text);
  const seconds = Number(match?.[1]) * (UNITS[match?.[2] ?? ""] ?? Number.NaN);
  if (seconds > 0) return seconds;
  throw new InvalidArgumentError("wants a time such as 12h, 7d or 2w, or never");
}
