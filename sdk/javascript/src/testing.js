/** For tests: the platform in memory, and calls as the platform makes them. Described in `testing.d.ts`. */
import { draft } from "./draft.js";
import { Event } from "./event.js";
import { handle } from "./handler.js";
import { answered } from "./http.js";
import { host, reset, restore, saved } from "./platform/memory.js";

export { reset };

/** A draft as an event, with its data as the value it stands for. */
function parsed({ data, datacontenttype, ...attributes }) {
  const text = data && new TextDecoder().decode(data);
  const json = data && /[/+]json\s*(;|$)/i.test(datacontenttype);
  const value = json ? JSON.parse(text) : data && /^text\//i.test(datacontenttype) ? text : data;
  return new Event({ ...attributes, datacontenttype, data: value });
}

export function event(type, data, { topic = "test", offset = host.made++, attempt = 1, ...attributes } = {}) {
  const made = Event.of(type, data, { id: `test-${offset}`, source: "/testing", time: "2026-01-31T12:00:00Z", ...attributes });
  return new Event({ ...made, topic, offset, attempt });
}

export function published(topic) {
  return host.published.filter((one) => topic === undefined || one.topic === topic).map((one) => Object.assign(parsed(one.draft), { topic: one.topic }));
}

export function state(bucket = "default") {
  const value = (bytes) => {
    const text = new TextDecoder().decode(bytes);
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  };
  return Object.fromEntries(Array.from(host.buckets.get(bucket) ?? [], ([key, bytes]) => [key, value(bytes)]));
}

export const logged = () => [...host.logged];

export function env(name, value) {
  host.variables.set(name, String(value));
}

export async function deliverAll(handler, events) {
  const deliveries = events.map((one) => ({ ...draft(one), topic: one.topic ?? "test", offset: one.offset ?? 0, attempt: one.attempt ?? 1, id: one.id ?? "test", source: one.source ?? "/testing" }));
  const outcomes = await handle(handler, deliveries);
  return outcomes.map(({ events: drafts, error }) => (error ? { error } : { events: drafts.map(parsed) }));
}

export async function deliver(handler, one) {
  const before = saved();
  const [{ events, error }] = await deliverAll(handler, [one]);
  if (!error) return events;
  restore(before);
  throw error;
}

export async function respond(exported, request, init) {
  const made = request instanceof Request ? request : new Request(new URL(request, "http://localhost/"), init);
  const promises = [];
  const response = await answered(exported, made, { waitUntil: (promise) => void promises.push(promise), passThroughOnException() {} });
  await Promise.all(promises);
  return response;
}
