import { deepEqual, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Command } from "commander";
import { program } from "../../../src/cli/program.js";

/** Without fonts, quotes and escapes, a line of words each. */
const page = readFileSync(new URL("../../../../docs/man/stripeward.8", import.meta.url), "utf8")
  .replace(/\\f[A-Z]/g, "")
  .replace(/\\-/g, "-")
  .replace(/"/g, "")
  .replace(/^\.[A-Z]+ /gm, "")
  .replace(/ +/g, " ");

function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${pathOf(parent)} ${command.name()}`;
}

/** Commands that people give: what help lists. */
function shown(command: Command): Command[] {
  const children = command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.name() !== "help");
  return children.length === 0 ? [command] : children.flatMap(shown);
}

const leaves = shown(program());

test("man page: names every command", () => {
  ok(leaves.length > 30);
  deepEqual(
    leaves.map(pathOf).filter((path) => !page.includes(path)),
    [],
  );
});

test("man page: names every option", () => {
  const options = leaves.flatMap((leaf) => leaf.options.map(({ long }) => ({ path: pathOf(leaf), long: long ?? "" })));
  ok(options.length > 60);
  const missing = options.filter(({ long }) => !new RegExp(`${long}(?![a-z-])`).test(page));
  deepEqual(
    missing.map(({ path, long }) => `${path} ${long}`),
    [],
  );
});
