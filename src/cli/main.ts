#!/usr/bin/env node
// Nothing is imported before this runs: a process that may open too few files to load the rest says so in one line.
try {
  const { runCommandLine } = await import("./run.js");
  process.exitCode = await runCommandLine();
} catch (error) {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "EMFILE" && code !== "ENFILE") throw error;
  const whose = code === "EMFILE" ? "this process (ulimit -n; LimitNOFILE= in a unit)" : "this machine (fs.file-max)";
  process.stderr.write(`stripeward: no more files may be open in ${whose}: 1024 is a good least\n`);
  process.exitCode = 1;
}
