import { platform } from "#platform";
import { draft } from "./draft.js";

export function publish(topic, ...events) {
  try {
    platform.publish(topic, events.flat().map(draft));
  } catch (error) {
    const reason = error.message === "denied" ? `the manifest doesn't allow it: add \`allow: { publish: [${topic}] }\`, and build again` : error.message;
    throw new Error(`publishing to \`${topic}\`: ${reason}`);
  }
}
