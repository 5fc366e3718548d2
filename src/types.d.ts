/** fs-ext 2.1 ships no types; this is the part that we call. */
declare module "fs-ext" {
  type FlockFlag = "sh" | "ex" | "shnb" | "exnb" | "un";
  export function flock(fd: number, flag: FlockFlag, done: (error: NodeJS.ErrnoException | null) => void): void;
  export function flockSync(fd: number, flag: FlockFlag): void;
  /** lseek(2): `whence` 2 is SEEK_END. Answers with the position, in bytes. */
  export function seek(
    fd: number,
    offset: number,
    whence: 0 | 1 | 2,
    done: (error: NodeJS.ErrnoException | null, position: number) => void,
  ): void;
}
