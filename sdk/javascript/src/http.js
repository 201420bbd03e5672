/** Requests. */
import { platform } from "#platform";
import { config } from "./config.js";
import { Reject, Retry } from "./errors.js";

export function param(request, name) {
  const value = request.headers.get(`dunlin-param-${name}`);
  if (value === null) throw new Reject(`the path has no \`${name}\``);
  try {
    return decodeURIComponent(value);
  } catch {
    throw new Reject(`\`${name}\` in the path is not UTF-8`);
  }
}

const TITLES = { 400: "Bad Request", 500: "Internal Server Error", 503: "Service Unavailable" };

function problem(status, detail, headers) {
  return new Response(JSON.stringify({ status, title: TITLES[status], detail }), { status, headers: { "content-type": "application/problem+json", ...headers } });
}

/** `env.NAME`, as other platforms hand it over. */
const env = new Proxy(
  {},
  {
    get: (_, name) => (typeof name === "string" ? config(name, undefined) : undefined),
    has: (_, name) => typeof name === "string" && config(name, undefined) !== undefined,
  },
);

/** What answers requests, of what a module exports by default. */
export function answering(exported) {
  const fetch = typeof exported === "function" ? exported : exported?.fetch?.bind(exported);
  return typeof fetch === "function" ? fetch : undefined;
}

/** Has a request answered: errors become answers. */
export async function answered(exported, request, context = { waitUntil() {}, passThroughOnException() {} }) {
  try {
    const response = await platform.settled(() => answering(exported)(request, env, context));
    if (response instanceof Response) return response;
    throw new TypeError(`\`fetch\` answers with a Response; this one did with ${response === undefined ? "nothing" : JSON.stringify(response)}`);
  } catch (error) {
    if (error instanceof Reject) return problem(400, error.message);
    platform.log("error", platform.describe(error), []);
    const after = error instanceof Retry && error.after !== undefined;
    return after ? problem(503, undefined, { "retry-after": String(Math.ceil(error.after / 1000)) }) : problem(500);
  }
}
