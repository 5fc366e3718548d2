import { type AddressInfo, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { encode, frame } from "./nfs-client.js";

/** Accepts every call over TCP without results. `answers` says on which connections, by number from 1. `sockets`: all that were made. */
export async function answeringServer(t: TestContext, answers: (connection: number) => boolean = () => true) {
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    const number = sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (received) => {
      const words = [received.readUInt32BE(4), 1, 0, 0, 0, 0];
      if (answers(number)) socket.write(frame(encode((w) => words.forEach((word) => void w.u32(word)))));
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  return { port: (listener.address() as AddressInfo).port, sockets };
}
