import assert from "node:assert/strict";
import { test } from "node:test";
import { deliver, event, logged } from "dunlin/testing";
import onEvent from "../src/index.ts";

test("an event is logged", async () => {
  await deliver(onEvent, event("order.created", { total: 5 }));
  assert.equal(logged()[0].message, "order.created from /testing");
});
