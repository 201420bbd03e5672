/** Between a handler and the platform: deliveries in, answers out. */
import { platform } from "#platform";
import { read } from "./data.js";
import { draft } from "./draft.js";
import { Reject, Retry } from "./errors.js";
import { Event } from "./event.js";

const OPTIONS = Symbol.for("dunlin.handler");

function marked(schema, call, many, name) {
  if (call === undefined) [schema, call] = [undefined, schema];
  if (typeof call !== "function") throw new TypeError(`\`${name}\` takes a function, or a schema and a function`);
  const handle = (...parameters) => call(...parameters);
  return Object.defineProperty(handle, OPTIONS, { value: { schema, many } });
}

export const handler = (schema, call) => marked(schema, call, false, "handler");
export const batch = (schema, call) => marked(schema, call, true, "batch");

/** What a handler answered, as a list of events. */
async function returned(answer) {
  if (answer === undefined || answer === null) return [];
  if (answer instanceof Event) return [draft(answer)];
  if (typeof answer === "object" && (Symbol.asyncIterator in answer || Symbol.iterator in answer)) {
    const drafts = [];
    for await (const event of answer) drafts.push(...(await returned(event)));
    return drafts;
  }
  throw new TypeError(`a handler answers with nothing, an Event, or several; this one did with ${JSON.stringify(answer)}`);
}

/** What became of it: its events, or the error. */
async function outcome(work) {
  try {
    return { events: await work() };
  } catch (error) {
    return { error: error ?? new Error(`${error} was thrown; it is also what is left when memory was too short for an error: see \`limits.memory\` of the manifest`) };
  }
}

/** Deliveries, and what became of each. An answer is what the handler returned for it: checked, and as drafts. */
export async function handle(call, deliveries) {
  const { schema, many } = call[OPTIONS] ?? {};
  const received = async (delivery) => new Event({ ...delivery, data: await read(delivery, schema) });
  if (!many) {
    const outcomes = [];
    for (const delivery of deliveries) {
      const event = await outcome(() => received(delivery));
      outcomes.push(event.error ? event : await outcome(async () => platform.checked(await returned(await platform.settled(() => call(event.events))))));
    }
    return outcomes;
  }

  const events = await Promise.all(deliveries.map((delivery) => outcome(() => received(delivery))));
  const readable = events.filter((event) => !event.error).map((event) => event.events);
  if (!readable.length) return events;
  const all = await outcome(async () => {
    const answers = await platform.settled(() => call(readable));
    if (answers === undefined || answers === null) return readable.map(() => undefined);
    const list = Array.isArray(answers) ? answers : undefined;
    if (list?.length !== readable.length) {
      // Nobody can say which answer belongs to which event.
      throw new TypeError(`a batch handler answers with nothing, or with a list of as many answers as there are events: this one did with ${list ? list.length : typeof answers} for ${readable.length}`);
    }
    return list;
  });
  let next = 0;
  const answered = events.map((event) => {
    if (event.error || all.error) return event.error ? event : all;
    const answer = all.events[next++];
    if (answer instanceof Error) return { error: answer };
    return outcome(async () => platform.checked(await returned(answer)));
  });
  return Promise.all(answered);
}

/** An outcome as the interface has it. */
export function answer({ events, error }) {
  if (!error) return { events };
  const reason = platform.describe(error);
  return error instanceof Reject ? { reject: reason } : { retry: reason, after: error instanceof Retry ? error.after : undefined };
}
