import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import Database from "better-sqlite3";
import { AssertionError } from "../../../src/lib/assert.js";
import { operatingError, StorageError } from "../../../src/lib/errors.js";

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return assert.fail("it throws");
}

test("errors of the outside world are operating errors, our own mistakes are none", () => {
  const own = new StorageError("ESTALE", "gone");
  assert.equal(operatingError(own), own);
  const code = (error: unknown) => operatingError(error)?.code;
  assert.equal(code(thrownBy(() => readFileSync("/nonexistent"))), "EIO");
  assert.equal(code(Object.assign(new Error("send"), { code: "ENOBUFS", syscall: "send" })), "EIO");
  assert.equal(code(Object.assign(new Error("full"), { code: "ENOSPC" })), "ENOSPC");
  assert.equal(
    code(Object.assign(new Error("x"), { code: "ERR_SYSTEM_ERROR", syscall: "uv_interface_addresses" })),
    "EIO",
  );
  const db = new Database(":memory:");
  db.pragma("max_page_count = 2");
  const full = thrownBy(() => {
    db.exec("CREATE TABLE t (x)");
    db.prepare("INSERT INTO t VALUES (zeroblob(100000))").run();
  });
  assert.equal(code(full), "ENOSPC");
  assert.equal(code(thrownBy(() => db.prepare("SELECT nothing FROM nowhere"))), undefined);
  for (const mistake of [
    new AssertionError("no"),
    new TypeError("no"),
    Object.assign(new RangeError("port"), { code: "ERR_SOCKET_BAD_PORT" }),
    "text",
    null,
  ])
    assert.equal(code(mistake), undefined);
});
