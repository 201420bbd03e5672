import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Event, config, handler, log, publish, state } from "dunlin";
import { deliver, env, event, logged, published, reset, state as kept } from "dunlin/testing";

beforeEach(reset);

test("state", () => {
  assert.equal(state.get("cart"), undefined);
  state.set("cart", ["tea"]);
  assert.deepEqual(state.get("cart"), ["tea"]);
  assert.ok(state.exists("cart"));
  assert.equal(state.increment("n"), 1);
  assert.equal(state.increment("n", 41), 42);
  assert.equal(state.update("n", (held) => held * 2), 84);
  assert.deepEqual(state.update("new", (held = []) => [...held, 1]), [1]);
  state.setMany({ a: 1, b: 2 });
  assert.deepEqual(state.getMany(["b", "x", "a"]), [2, undefined, 1]);
  state.deleteMany(["a", "b", "new"]);
  state.delete("cart");
  assert.deepEqual([...state.keys()], ["n"]);
  state.set("bytes", new Uint8Array([0, 255]));
  assert.deepEqual(state.getBytes("bytes"), new Uint8Array([0, 255]));
  assert.throws(() => state.get("bytes"), /`bytes` holds no JSON/);
  state.bucket("carts").set("ada", 1);
  assert.deepEqual(kept("carts"), { ada: 1 });
  assert.equal(state.get("ada"), undefined);
});

test("keys beyond a page", () => {
  for (let n = 0; n < 25; n++) state.set(`k${n}`, n);
  assert.equal([...state.keys()].length, 25);
});

test("keys and values the platform refuses", () => {
  assert.throws(() => state.get(""), /the function's state: a key has 1 to 1024 bytes and no control characters: this one is empty/);
  assert.throws(() => state.bucket("carts").get("ä".repeat(513)), /the state `carts`: .*1026 bytes/);
  assert.throws(() => state.set("a\nb", 1), /has some/);
  assert.throws(() => state.set("big", "x".repeat(1 << 20)), /a value has up to 1048576 bytes/);
  assert.throws(() => state.set("a", undefined), /can't be written: it is undefined/);
  assert.throws(() => state.setMany({ a: 1, "": 2 }));
  assert.equal(state.exists("a"), false);
});

test("an update that was overtaken is made anew", () => {
  state.set("n", 1);
  const seen = [];
  const sum = state.update("n", (held) => {
    seen.push(held);
    if (seen.length === 1) state.set("n", 10);
    return held + 1;
  });
  assert.deepEqual([seen, sum], [[1, 10], 11]);
});

test("publishing", () => {
  publish("mails", Event.of("a", 1), [Event.of("b", "x", { datacontenttype: "text/plain" })]);
  assert.deepEqual(published("mails").map((one) => [one.type, one.data]), [["a", 1], ["b", "x"]]);
  assert.throws(() => publish("Mails", Event.of("a")), /publishing to `Mails`: it is not a topic name/);
  assert.throws(() => publish("mails", { type: "a" }), /it is no Event/);
});

test("what a failed run wrote is gone", async () => {
  const failing = handler(() => {
    state.increment("n");
    publish("mails", Event.of("a"));
    throw new Error("after all");
  });
  await assert.rejects(deliver(failing, event("e")), /after all/);
  assert.deepEqual([kept(), published()], [{}, []]);
});

test("configuration", () => {
  env("LIMIT", 5);
  assert.equal(config("LIMIT"), "5");
  assert.equal(config("LIMIT", 1), 5);
  assert.equal(config("OTHER", 1), 1);
  assert.equal(config("OTHER", undefined), undefined);
  assert.throws(() => config("OTHER"), /`OTHER` is not set: name it in the manifest's `allow.env` or `allow.secrets`/);
  env("LIMIT", "many");
  assert.throws(() => config("LIMIT", 1), { message: "`LIMIT` is no number" });
  assert.throws(() => config("LIMIT", true), /neither/);
});

test("log lines", () => {
  log.warn("low", { left: 3, of: { sku: "tea" }, none: undefined });
  assert.deepEqual(logged(), [{ level: "warn", message: "low", fields: { left: "3", of: '{"sku":"tea"}' } }]);
});
