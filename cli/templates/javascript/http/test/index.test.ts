import assert from "node:assert/strict";
import { test } from "node:test";
import { respond } from "dunlin/testing";
import app from "../src/index.ts";

const greet = (who: string) => respond(app, "/{{name}}", { headers: { "dunlin-param-who": who } });

test("everybody is greeted", async () => {
  assert.deepEqual(await (await greet("ada")).json(), { greeting: "Hello, ada!" });
  assert.equal((await greet("a".repeat(101))).status, 400);
});
