/** fs-ext 2.1 ships no types; this is the part that we call. */
declare module "fs-ext" {
  type FlockFlag = "sh" | "ex" | "shnb" | "exnb" | "un";
  export function flock(fd: number, flag: FlockFlag, done: (error: NodeJS.ErrnoException | null) => void): void;
  export function flockSync(fd: number, flag: FlockFlag): void;
}
