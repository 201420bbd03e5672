import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Reject, Retry, param } from "dunlin";
import { env, logged, reset, respond } from "dunlin/testing";

beforeEach(reset);

test("a request is answered", async () => {
  const app = { greeting: "Hello", async fetch(request) { return new Response(`${this.greeting}, ${param(request, "name")}! ${new URL(request.url).search}`); } };
  const response = await respond(app, "/hello/J?x=1", { headers: { "dunlin-param-name": "J%C3%B6rg" } });
  assert.equal(await response.text(), "Hello, Jörg! ?x=1");
});

test("errors become answers", async () => {
  const failing = (error) => respond({ fetch() { throw error; } }, "/");
  const rejected = await failing(new Reject("no such order"));
  assert.equal(rejected.headers.get("content-type"), "application/problem+json");
  assert.deepEqual(await rejected.json(), { status: 400, title: "Bad Request", detail: "no such order" });
  assert.deepEqual(await (await failing(new Error("the password is 1234"))).json(), { status: 500, title: "Internal Server Error" });
  assert.match(logged()[0].message, /the password is 1234/);
  const later = await failing(new Retry("busy", { after: 1500 }));
  assert.deepEqual([later.status, later.headers.get("retry-after")], [503, "2"]);
  assert.equal((await respond({ fetch: () => "text" }, "/")).status, 500);
  assert.equal((await respond({ fetch: (request) => new Response(param(request, "id")) }, "/")).status, 400);
});

test("variables, as elsewhere, and work after the answer", async () => {
  env("GREETING", "Moin");
  let done = false;
  const response = await respond({
    fetch(_, variables, context) {
      context.waitUntil(new Promise((resolve) => setTimeout(resolve, 5)).then(() => (done = true)));
      return new Response(`${variables.GREETING} ${variables.NONE}`);
    },
  }, "/");
  assert.equal(await response.text(), "Moin undefined");
  assert.ok(done);
});
