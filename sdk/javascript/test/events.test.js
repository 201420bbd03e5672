import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Event, Reject, Retry, batch, handler } from "dunlin";
import { deliver, deliverAll, event, reset } from "dunlin/testing";

beforeEach(reset);

/** A schema as those of zod and the like. */
const number = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) => (typeof value === "number" ? { value } : { issues: [{ message: "expected number", path: ["items", 0, { key: "price" }] }] }),
  },
};

test("every answer counts", async () => {
  const data = async (answer) => (await deliver(handler(answer), event("n", 7))).map((one) => one.data);
  const again = (one) => Event.of("again", one.data + 1);
  assert.deepEqual(await data(() => undefined), []);
  assert.deepEqual(await data(async () => null), []);
  assert.deepEqual(await data(again), [8]);
  assert.deepEqual(await data((one) => [one, undefined, again(one)]), [7, 8]);
  assert.deepEqual(
    await data(async function* (one) {
      yield one;
      yield again(one);
    }),
    [7, 8],
  );
  await assert.rejects(data(() => 5), /answers with nothing, an Event, or several; this one did with 5/);
});

test("data is what its content type says", async () => {
  let seen;
  const look = handler((one) => void (seen = one.data));
  const data = async (...parameters) => {
    await deliver(look, event("e", ...parameters));
    return seen;
  };
  assert.deepEqual(await data({ a: [1] }), { a: [1] });
  assert.equal(await data("text"), "text");
  assert.equal(await data("a,b", { datacontenttype: "text/csv" }), "a,b");
  assert.deepEqual(await data(new Uint8Array([1, 2])), new Uint8Array([1, 2]));
  assert.deepEqual(await data({ a: 1 }, { datacontenttype: "application/problem+json; charset=utf-8" }), { a: 1 });
  assert.equal(await data(), undefined);
  await assert.rejects(data({}, { datacontenttype: "text/csv" }), /is text or bytes, not object/);
});

test("data that doesn't fit is rejected with its place, and the handler isn't called", async () => {
  const never = handler(number, () => assert.fail("it was called"));
  const error = await deliver(never, event("order.created", "x", { id: "7" })).catch((thrown) => thrown);
  assert.ok(error instanceof Reject);
  assert.equal(error.message, "the data of `7`, of type `order.created`, is wrong: items[0].price: expected number");
  const throws = handler(() => { throw new Error("no"); }, () => {});
  await assert.rejects(deliver(throws, event("e", 1)), Reject);
  await assert.rejects(deliver(never, event("e", "{", { datacontenttype: "application/json" })), Reject);
});

test("what a schema makes of the data is what the handler gets", async () => {
  const [length] = await deliver(handler((value) => String(value).length, (one) => Event.of("length", one.data)), event("e", "four"));
  assert.equal(length.data, 4);
});

test("one that fails doesn't lose the others' answers", async () => {
  const odd = handler(number, (one) => {
    if (one.data === 2) throw new Error("two");
    return Event.of("odd", one.data);
  });
  const outcomes = await deliverAll(odd, [event("n", 1), event("n", 2), event("n", "x"), event("n", 3)]);
  assert.deepEqual(outcomes.map(({ events, error }) => events?.[0].data ?? error.constructor.name), [1, "Error", "Reject", 3]);
});

test("each event of a batch has its answer", async () => {
  const each = batch(number, (events) => events.map((one) => (one.data === 2 ? new Reject("two") : Event.of("n", one.data))));
  const outcomes = await deliverAll(each, [event("n", 1), event("n", "x"), event("n", 2), event("n", 3)]);
  assert.deepEqual(outcomes.map(({ events, error }) => events?.[0].data ?? error.message.slice(0, 8)), [1, "the data", "two", 3]);

  const few = await deliverAll(batch(() => [undefined]), [event("n", 1), event("n", 2)]);
  assert.match(few[1].error.message, /this one did with 1 for 2/);
  const none = await deliverAll(batch(() => { throw new Retry("down", { after: "5s" }); }), [event("n", 1), event("n", 2)]);
  assert.deepEqual(none.map(({ error }) => error.after), [5000, 5000]);
  assert.deepEqual(await deliverAll(batch(() => {}), [event("n", 1)]), [{ events: [] }]);
});

test("an event has what it was made of", () => {
  const made = Event.of("a", 1, { key: 7, subject: "s", time: new Date(0), extensions: { tenant: "t" } });
  assert.equal(made.key, "7");
  assert.equal(made.time, "1970-01-01T00:00:00.000Z");
  assert.deepEqual(made.extensions, { tenant: "t", partitionkey: "7" });
  assert.ok(!("id" in made));
  assert.throws(() => Event.of("a", 1, { tenant: "t" }), /`tenant` is no attribute of an event/);
});

test("what the platform would refuse is refused", async () => {
  const returning = (...parameters) => deliver(handler(() => Event.of(...parameters)), event("e"));
  await assert.rejects(returning(""), /`type` is empty/);
  await assert.rejects(returning("e", 1, { subject: "" }), /`subject` is empty; leave it out/);
  await assert.rejects(returning("e", 1, { extensions: { data: "x" } }), /the specification defines it/);
  await assert.rejects(returning("e", 1, { extensions: { Tenant: "x" } }), /use lowercase letters and digits/);
  await assert.rejects(returning("e", 1, { extensions: { big: 2 ** 40 } }), /whole number of 32 bits/);
});

test("a time to retry after has a unit, or is milliseconds", () => {
  assert.equal(new Retry("x", { after: "1.5m" }).after, 90_000);
  assert.equal(new Retry("x", { after: 20 }).after, 20);
  assert.equal(new Retry("x").after, undefined);
  assert.throws(() => new Retry("x", { after: "soon" }), /a number of milliseconds, or a time such as "30s"/);
});
