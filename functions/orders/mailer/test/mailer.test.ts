import assert from "node:assert/strict";
import { test } from "node:test";
import { Reject } from "dunlin";
import { deliver, event } from "dunlin/testing";
import mailer from "../src/index.ts";

test("an invoice is sent to who ordered", async () => {
  const invoice = event("invoice.issued", { invoice: "2026-1", order: "7", customer: "ada", amount: 1290 });
  const [mail, ...more] = await deliver(mailer, invoice);
  assert.equal(more.length, 0);
  assert.deepEqual([mail.type, mail.subject, mail.key], ["mail.wanted", "7", "7"]);
  assert.deepEqual(mail.data, {
    order: "7",
    to: "ada",
    subject: "Invoice 2026-1",
    text: "Hello ada,\n\nyour order 7 comes to 12.90 EUR. Thank you!",
  });
});

test("an invoice may not say who ordered", async () => {
  const [mail] = await deliver(mailer, event("invoice.issued", { invoice: "2026-1", order: "7", amount: 5 }));
  assert.ok(!("to" in mail.data));
  assert.match(mail.data.text, /^Hello,\n\n.* 0\.05 EUR/);
});

test("an order on its way is announced", async () => {
  const [mail] = await deliver(mailer, event("order.shipped", { order: "7" }));
  assert.deepEqual(mail.data, { order: "7", subject: "Your order is on its way", text: "We have sent your order 7." });
});

test("what is no order is rejected", async () => {
  await assert.rejects(deliver(mailer, event("order.shipped", {})), Reject);
  await assert.rejects(deliver(mailer, event("invoice.issued", { invoice: "1", order: "7", amount: "12" })), /amount: expected a whole number/);
});
