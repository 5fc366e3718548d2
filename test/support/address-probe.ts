// address-probe HOST PORT: mounts /data about ten times a second, each time over a new connection, and prints "answered" for each handle that it gets.
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { encode, encodeCall, frame, MOUNT } from "./nfs-client.js";

const ANSWER_MS_MAX = 500;
const PAUSE_MS = 100;
const MNT = 1;
/** Where mountstat3 stands: record mark, xid, REPLY, accepted, verifier (two words), accept_stat (RFC 5531 section 9). */
const STATUS_AT = 7 * 4;

const [host = "", port = ""] = process.argv.slice(2);
const call = frame(
  encodeCall(
    1,
    MNT,
    encode((w) => w.text("/data")),
    { program: MOUNT },
  ),
);

/** A connection that the other side closes without a word, as a node does that lets go, is no answer. */
async function ask(): Promise<boolean> {
  const socket = connect({ host, port: Number(port) });
  const reply = await new Promise<Buffer | null>((resolve) => {
    const none = (): void => resolve(null);
    // A timer that keeps the process alive: a socket that is closed does not.
    const timer = setTimeout(none, ANSWER_MS_MAX);
    socket.on("error", none).on("data", resolve);
    socket.on("close", none).on("close", () => clearTimeout(timer));
    socket.write(call);
  });
  socket.destroy();
  return reply !== null && reply.length >= STATUS_AT + 4 && reply.readUInt32BE(STATUS_AT) === 0;
}

for (;;) {
  if (await ask()) process.stdout.write("answered\n");
  await sleep(PAUSE_MS);
}
