import type { TaskDescription } from "../raid/contract.js";

/** It has not ended. */
export function isUnderWay({ state }: TaskDescription): boolean {
  return state === "running" || state === "paused";
}
