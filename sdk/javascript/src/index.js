/**
 * Functions for Dunlin, in JavaScript.
 *
 * Only `#platform` knows where it runs: in the engine it is the platform, and elsewhere (in Node, for tests) one in memory.
 * What is here is described in `index.d.ts`.
 */
export { Event } from "./event.js";
export { Reject, Retry } from "./errors.js";
export { batch, handler } from "./handler.js";
export { publish } from "./publish.js";
export { state } from "./state.js";
export { log } from "./log.js";
export { config } from "./config.js";
export { param } from "./http.js";
