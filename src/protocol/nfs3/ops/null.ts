import type { Operation } from "../call.js";

/** NFSv3 NULL, RFC 1813 section 3.3.0: does nothing, to measure or to see whether the server answers. */
export const nullOperation: Operation = {
  name: "NULL",
  run(call) {
    call.rpc.begin(0);
    call.end();
  },
  fail(call) {
    call.rpc.begin(0);
    call.end();
  },
};
