/** Counts the events of each type, and tells how many there were. */
import { Event, handler, log, state } from "dunlin";

export default handler(async (event) => {
  const count = state.increment(event.type);
  log.info("counted", { kind: event.type, count });
  return Event.of("event.counted", { kind: event.type, count });
});
