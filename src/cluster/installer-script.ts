import { readFileSync } from "node:fs";
import { assert } from "../lib/assert.js";
import type { Invitation } from "./installer.js";

/** The oldest Node that runs us: as `engines` in package.json. */
export const NODE_LEAST = [20, 10] as const;

/** Plain enough for every Node there ever was, because it must run where the rest does not. */
const HEAD = `// The installer of stripeward for one node: run it with "node -".
var found = process.versions.node.split(".").map(Number);
if (found[0] < ${NODE_LEAST[0]} || (found[0] === ${NODE_LEAST[0]} && found[1] < ${NODE_LEAST[1]})) {
  console.error("stripeward needs Node.js ${NODE_LEAST.join(".")} or newer, and this is " + process.versions.node);
  process.exit(1);
}
`;

/**
 * cluster/installer.ts as one script for \`node -\`, which takes what it is piped for CommonJS: its imports, all of Node's own modules, become calls of require.
 * @param invitation  written into the script
 */
export function installerScript(invitation: Invitation): string {
  const compiled = readFileSync(new URL("./installer.js", import.meta.url), "utf8");
  const body = compiled
    .replace(/^import \{([^}]*)\} from "(node:[\w/]+)";$/gm, (_, names: string, from: string) => {
      return `const {${names.replaceAll(" as ", ": ")}} = require("${from}");`;
    })
    .replace(/^import (\w+) from "(node:[\w/]+)";$/gm, 'const $1 = require("$2");')
    .replace(/^export (async function|function|const|class) /gm, "$1 ")
    .replace(/^\/\/# sourceMappingURL.*$/m, "");
  assert(!/^(import|export)\b/m.test(body), "the installer imports nothing but Node's own modules");
  return `${HEAD}${body}
installNode(${JSON.stringify(invitation)}, (what) => console.log(what)).catch((error) => {
  console.error("stripeward: " + error.message);
  process.exitCode = 1;
});
`;
}

/** Instead of the installer: says in one line why there is none. */
export function complaintScript(what: string): string {
  return `console.error(${JSON.stringify(`stripeward: ${what}`)});\nprocess.exitCode = 1;\n`;
}
