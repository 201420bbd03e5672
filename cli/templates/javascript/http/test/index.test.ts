import assert from "node:assert/strict";
import { test } from "node:test";
import { respond } from "dunlin/testing";
import app from "../src/index.ts";

test("it greets", async () => {
  const response = await respond(app, "/?name=Ada");
  assert.deepEqual(await response.json(), { greeting: "Hello, Ada!" });
  assert.equal((await respond(app, "/?name=")).status, 400);
});
