// address-probe HOST PORT: mounts /data about ten times a second, each time over a new connection, and prints "answered" for each handle that it gets.
import { once } from "node:events";
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

async function ask(): Promise<boolean> {
  const socket = connect({ host, port: Number(port) });
  socket.on("error", () => {});
  socket.write(call);
  try {
    const [reply] = (await once(socket, "data", { signal: AbortSignal.timeout(ANSWER_MS_MAX) })) as [Buffer];
    return reply.length >= STATUS_AT + 4 && reply.readUInt32BE(STATUS_AT) === 0;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

for (;;) {
  if (await ask()) process.stdout.write("answered\n");
  await sleep(PAUSE_MS);
}
