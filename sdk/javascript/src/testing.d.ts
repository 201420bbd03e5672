/**
 * For tests, in Node: a platform in memory, which shows what a function published, kept and logged.
 *
 * ```ts
 * beforeEach(reset);
 *
 * test("an order is paid", async () => {
 *   const [paid] = await deliver(onOrder, event("order.created", { id: "7", total: 1290 }));
 *   assert.equal(paid.data.amount, 1290);
 * });
 * ```
 */
import type { Attributes, Event, Fetcher } from "./index.js";

/** Forgets everything: events, state, log lines, variables. */
export function reset(): void;

/** An event as a handler gets it: the first attempt, at the next offset of the topic `test`. */
export function event<T>(type: string, data?: T, attributes?: Attributes & { topic?: string; offset?: number; attempt?: number }): Event<T>;

/** Hands an event to a handler as the platform does: its data is written out and read again, and nothing is published or kept if it isn't taken. */
export function deliver(handler: Function, event: Event): Promise<Event[]>;

/** Hands over several in one call, and answers for each. */
export function deliverAll(handler: Function, events: readonly Event[]): Promise<({ events: Event[]; error?: undefined } | { events?: undefined; error: unknown })[]>;

/** Has a request answered as the platform does: errors become answers. */
export function respond(exported: Fetcher | Function, request: Request | string | URL, init?: RequestInit): Promise<Response>;

/** What was published with `publish`, in order. What a handler returns is not among it. */
export function published(topic?: string): Event[];

/** What is in the function's own bucket, or in a shared one. */
export function state(bucket?: string): Record<string, any>;

/** What was logged with `log`, in order. */
export function logged(): { level: string; message: string; fields: Record<string, string> }[];

/** Sets a variable or secret, for `config`. */
export function env(name: string, value: string | number | boolean): void;
