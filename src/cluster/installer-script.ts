import { readFileSync } from "node:fs";
import { assert } from "../lib/assert.js";
import { escaped, printableText, UNSAFE } from "../lib/printable.js";
import type { PublicInvitation } from "./installer.js";

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

/** What the terminal and the daemon say is shown escaped there, too: the function as it stands here, with what it uses. */
const PRINTABLE = `const UNSAFE = ${UNSAFE};\n${escaped}\n${printableText}`;

/**
 * cluster/installer.ts as one script for \`node -\`, which takes what it is piped for CommonJS: its imports, all of Node's own modules, become calls of require.
 * There is no line end at its end, which a shell would lose: the checksum is of what the shell has.
 * @param invitation  written into the script; the token comes in the environment of the process
 */
export function installerScript(invitation: PublicInvitation): string {
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
${PRINTABLE}
installNode({ ...${JSON.stringify(invitation)}, token: takeToken() }, (what) => console.log(printableText(what))).catch((error) => {
  console.error(printableText("stripeward: " + error.message));
  process.exitCode = 1;
});`;
}
