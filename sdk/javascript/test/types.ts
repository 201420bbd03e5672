// It is compiled, not run.
import { Event, Reject, Retry, batch, config, handler, log, publish, state, type Fetcher } from "dunlin";
import { deliver, event } from "dunlin/testing";

interface Order { id: string; total: number }

const typed = handler<Order>(async (event) => {
  const total: number = event.data.total;
  // @ts-expect-error there is no such property
  event.data.nothing;
  if (total === 0) throw new Reject("nothing");
  if (total > config("LIMIT", 5)) throw new Retry("later", { after: "5s" });
  log.info("paid", { total });
  publish("mails", Event.of("mail", { total }));
  const held: number = state.update<number>("sum", (sum = 0) => sum + total);
  return held ? Event.of("order.paid", { total }, { key: event.key }) : undefined;
});
export default typed;

export const inferred = handler((data: unknown): Order => data as Order, (event) => void event.data.id.length);
export const many = batch<Order>((events) => events.map((event) => (event.data.total ? undefined : new Reject("none"))));
// @ts-expect-error a number is no answer
export const wrong = handler<Order>(() => 5);
export const app: Fetcher = { fetch: (request) => Response.json({ url: request.url }) };
const events: Promise<Event[]> = deliver(typed, event("order.created", { id: "1", total: 1 }));
void events;
