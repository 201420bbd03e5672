import assert from "node:assert/strict";
import { test } from "node:test";
import { deliver, event, state } from "dunlin/testing";
import onEvent from "../src/index.ts";

test("events are counted by type", async () => {
  for (const count of [1, 2]) {
    const [counted] = await deliver(onEvent, event("order.created", "anything"));
    assert.deepEqual(counted.data, { kind: "order.created", count });
  }
  assert.equal(state()["order.created"], 2);
});
