// Publishes with the CloudEvents SDK for JavaScript, and reads back what it published. See ../README.md.
import assert from "node:assert/strict";
import { CloudEvent, HTTP, Mode, emitterFor } from "cloudevents";

const address = process.argv[2];
const source = "/clients/javascript";
const text = "Grüße, €";
const order = (id) =>
  new CloudEvent({ id, source, type: "order.created", subject: text, partitionkey: "k", data: { text, total: 5 } });

// The SDK doesn't encode header values; text that is no ASCII can't be in one.
const encoded = (headers) =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, String(value).replace(/[^ -~]+/gu, encodeURIComponent)]),
  );

async function post({ headers, body }) {
  const response = await fetch(address, { method: "POST", headers: encoded(headers), body });
  assert.equal(response.status, 202, await response.text());
}

const bytes = new CloudEvent({
  id: "bytes",
  source,
  type: "image.taken",
  datacontenttype: "image/png",
  data: Uint8Array.of(0, 1, 255),
});
const sent = [order("binary"), bytes, order("structured"), order("first"), order("second")];
const binary = emitterFor(post, { binding: HTTP, mode: Mode.BINARY });
await binary(sent[0]);
await binary(sent[1]);
await emitterFor(post, { binding: HTTP, mode: Mode.STRUCTURED })(sent[2]);
// The SDK reads batches; to write one is to write its events.
await post({ headers: { "content-type": "application/cloudevents-batch+json" }, body: JSON.stringify(sent.slice(3)) });

const response = await fetch(address, { headers: { accept: "application/cloudevents-batch+json" } });
const read = HTTP.toEvent({ headers: Object.fromEntries(response.headers), body: await response.text() });
assert.equal(read.length, sent.length);
read.forEach((event, i) => {
  const expected = sent[i];
  for (const name of ["id", "source", "type", "subject", "time", "partitionkey"]) {
    assert.equal(event[name], expected[name], `${name} of ${expected.id}`);
  }
  assert.deepEqual(event.data, expected.data, expected.id);
});
