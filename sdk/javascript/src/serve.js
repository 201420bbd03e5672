/** What the export of a component calls. `dunlin build` puts it around a function's module. */
import { platform } from "#platform";
import { answer, handle } from "./handler.js";
import { answered, answering } from "./http.js";

/** Something that failed, with nobody to tell. */
function tell() {
  for (const reason of platform.hooks.unhandled()) platform.log("error", `nobody waited for a promise that failed: ${platform.describe(reason)}`, []);
}

export function serve(program) {
  const exported = program.default;
  if (platform.world === "http") {
    if (!answering(exported)) {
      throw Object.assign(new Error("a function for requests exports what answers them: `export default { async fetch(request) { … } }`. The manifest has an `http` trigger, or none"), { stack: "" });
    }
    platform.hooks.respond = async (received) => {
      const promises = [];
      const context = { waitUntil: (promise) => void promises.push(promise), passThroughOnException() {} };
      const response = await answered(exported, platform.hooks.request(received), context);
      try {
        await platform.hooks.answer(received, response);
      } catch (error) {
        platform.log("error", `the answer broke off: ${platform.describe(error)}`, []);
      }
      for (const { reason } of await Promise.allSettled(promises)) {
        if (reason !== undefined) platform.log("error", platform.describe(reason), []);
      }
      tell();
      platform.hooks.ended();
    };
    return;
  }
  if (typeof exported !== "function") {
    throw Object.assign(new Error("a function for events exports its handler: `export default handler(async (event) => { … })`. For requests, the manifest needs an `http` trigger"), { stack: "" });
  }
  platform.hooks.handle = async (deliveries) => {
    const outcomes = await handle(exported, deliveries);
    tell();
    platform.hooks.ended();
    return outcomes.map(answer);
  };
}
