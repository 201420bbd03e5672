import { handler, log } from "dunlin";

/** Called for each event. If it throws, the event is tried again; throw `Reject` for one that is wrong. */
export default handler(async (event) => {
  log.info(`${event.type} from ${event.source}`, { data: event.data });
  // To publish events, return them: `Event.of("type", data)`, and name their topic in function.yaml: `publish: TOPIC`.
});
