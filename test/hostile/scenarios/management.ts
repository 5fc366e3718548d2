import { connect, type Socket } from "node:net";
import { crowd, type HostileContext, pick, type Scenario } from "../scenario.js";

const AT_ONCE = 8;
const REQUESTS = [
  "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n",
  "GET /v1/events/follow?last=4096 HTTP/1.1\r\nhost: x\r\n\r\n",
  "GET /v1/backups/stream?fileSystem=data&target=x HTTP/1.1\r\nhost: x\r\n\r\n",
  "GET /v1/file-systems/data/files?limit=999999999 HTTP/1.1\r\nhost: x\r\n\r\n",
  'POST /v1/locks/release HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"host":"x"}',
  "POST /v1/backups/restore?fileSystem=none HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: 100\r\n\r\nxx",
  'POST /v1/disks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"path":1',
  "GET / HTTP/9.9\r\n\r\n",
  `GET /${"x".repeat(20_000)} HTTP/1.1\r\nhost: x\r\n\r\n`,
  "\u0000\u0001\u0002",
];

function open(path: string): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("error", () => {});
    socket.once("connect", () => resolve(socket));
    socket.once("close", () => resolve(null));
  });
}

async function misbehave(context: HostileContext): Promise<void> {
  const { random, target } = context;
  const socket = await open(target.socket);
  if (socket === null) return;
  const request = pick(context, REQUESTS);
  if (random.below(2) === 0) socket.on("data", () => {});
  socket.write(random.below(3) === 0 ? request.slice(0, random.below(request.length)) : request);
  await new Promise((resolve) => setTimeout(resolve, random.below(50)));
  socket.destroy();
}

/** Callers of the management socket that break off, do not read, or speak no HTTP. */
export const management: Scenario = {
  name: "management",
  async run(context) {
    const made = await crowd(context, AT_ONCE, () => misbehave(context));
    context.note(`${made} calls`);
  },
};
