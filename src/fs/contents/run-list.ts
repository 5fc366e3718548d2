/** Block addresses as runs: what a commit frees. Adding in rising order costs one slot per run. */
export class RunList {
  readonly starts: number[] = [];
  readonly counts: number[] = [];
  blockCount = 0;

  add(block: number): void {
    const last = this.starts.length - 1;
    this.blockCount++;
    if (last >= 0 && this.starts[last]! + this.counts[last]! === block) this.counts[last]!++;
    else {
      this.starts.push(block);
      this.counts.push(1);
    }
  }
}
