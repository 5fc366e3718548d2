import type { FileLabels } from "./contents/data-inspector.js";
import type { BadBlock } from "./contents/events.js";
import type { FileSystemEvent } from "./namespace.js";

/** More than so many wait for a name only when a disk has gone mad; then the number of the inode has to do. */
const WAITING_MAX = 256;

/** Events about a block of a file get its name on the way; they keep their order, and come a moment later. Others pass at once. */
export function withFileNames(
  labels: FileLabels,
  onEvent: (event: FileSystemEvent) => void,
): (event: FileSystemEvent) => void {
  let last: Promise<void> = Promise.resolve();
  let waiting = 0;
  const name = async (event: BadBlock): Promise<void> => {
    const file = await labels.labelOf(event.ino, event.block);
    waiting--;
    onEvent({ ...event, file });
  };
  return (event) => {
    const ofBlock = event.kind === "healed" || event.kind === "unreadable";
    if (!ofBlock || waiting >= WAITING_MAX) {
      onEvent(event);
      return;
    }
    waiting++;
    last = last.then(() => name(event));
  };
}
