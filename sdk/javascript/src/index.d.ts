/** Functions for Dunlin, in JavaScript and TypeScript. */

/** An event: one that was received, or one to be published. */
export class Event<T = any> {
  private constructor();

  /**
   * A new event. It needs no more than a type and data; the platform adds an id that stays the same when the run is repeated,
   * `/functions/NAME` as the source, and the time.
   *
   * Data is sent as JSON; bytes as `application/octet-stream`; a string with another `datacontenttype` than JSON as text.
   */
  static of<T>(type: string, data?: T, attributes?: Attributes): Event<T>;

  /** Of a new event, what was given. */
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject?: string;
  /** RFC 3339. */
  readonly time?: string;
  readonly datacontenttype?: string;
  readonly dataschema?: string;
  /** The attributes that are not CloudEvents' own, by name. */
  readonly extensions: Readonly<Record<string, string | number | boolean>>;
  readonly data: T;
  /** Events of one key are handled in their order: the extension `partitionkey`. */
  readonly key?: string;
  /** The topic it came from. */
  readonly topic?: string;
  /** Its place there, counted from 0. */
  readonly offset?: number;
  /** How often it has been tried, this time included. */
  readonly attempt?: number;
}

export interface Attributes {
  /** Events of one key are handled in their order. */
  key?: string | number;
  subject?: string;
  id?: string;
  source?: string;
  time?: string | Date;
  datacontenttype?: string;
  dataschema?: string;
  /** Your own: names of lowercase letters and digits. */
  extensions?: Record<string, string | number | boolean | undefined>;
}

/** Thrown: the event is wrong, and will be wrong the next time. It goes to the dead letters at once; a request is answered with 400 and the message. */
export class Reject extends Error {}

/** Thrown: try again, after a time where there is one. Any other error is tried again too, when the manifest's `retry.backoff` says. */
export class Retry extends Error {
  constructor(message?: string, options?: ErrorOptions & { /** Milliseconds, or `"30s"`, `"5m"`. */ after?: number | string });
  readonly after?: number;
}

type Awaitable<T> = T | Promise<T>;

/** What a handler answers with: nothing, an event, or several. They go to the topic the manifest names in `publish`. */
export type Returned = void | undefined | null | Event | Iterable<Event | undefined | null> | AsyncIterable<Event | undefined | null>;

/** What data is checked by: a schema of zod, valibot, arktype and the like, or a function that throws. */
export type Schema<T> = StandardSchema<T> | ((data: unknown) => T);

/** https://standardschema.dev */
export interface StandardSchema<T> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Awaitable<{ readonly value: T; readonly issues?: undefined } | { readonly issues: readonly unknown[] }>;
    readonly types?: { readonly input: unknown; readonly output: T } | undefined;
  };
}

/**
 * A handler of events, one at a time. With a schema, events whose data doesn't fit it are rejected, and the reason says where.
 *
 * ```ts
 * export default handler<Order>(async (event) => Event.of("order.paid", { amount: event.data.total }));
 * ```
 */
export function handler<T = any>(handle: (event: Event<T>) => Awaitable<Returned>): (event: Event<T>) => Awaitable<Returned>;
export function handler<T>(schema: Schema<T>, handle: (event: Event<T>) => Awaitable<Returned>): (event: Event<T>) => Awaitable<Returned>;

/** What a handler of several events answers with: nothing, or for each event, in their order, what a handler of one does, or an error. */
export type ReturnedEach = void | undefined | null | readonly (Returned | Error)[];

/** A handler of several events at once, where the manifest's trigger has a `batch`. If it throws, none is taken. */
export function batch<T = any>(handle: (events: Event<T>[]) => Awaitable<ReturnedEach>): (events: Event<T>[]) => Awaitable<ReturnedEach>;
export function batch<T>(schema: Schema<T>, handle: (events: Event<T>[]) => Awaitable<ReturnedEach>): (events: Event<T>[]) => Awaitable<ReturnedEach>;

/**
 * Publishes events to a topic the manifest names in `publish` or `allow.publish`. In a run on an event they are published when
 * it has succeeded; otherwise they are on disk when this returns. There is nothing to await.
 */
export function publish(topic: string, ...events: (Event | readonly Event[])[]): void;

/**
 * Values under keys, that outlast the run. In a run on an event, all that is written is written together with its returned
 * events, when it has succeeded. There is nothing to await.
 */
export interface Bucket {
  /** What a key holds, as JSON. */
  get<T = any>(key: string): T | undefined;
  /** Writes JSON, or bytes as they are: up to 1 MiB, under a key of 1 to 1,024 bytes. */
  set(key: string, value: unknown): void;
  /** What a key holds, as it is. */
  getBytes(key: string): Uint8Array | undefined;
  delete(key: string): void;
  exists(key: string): boolean;
  /** In the order of the keys. */
  getMany<T = any>(keys: readonly string[]): (T | undefined)[];
  /** All of them, or none. */
  setMany(values: Record<string, unknown> | Map<string, unknown>): void;
  deleteMany(keys: readonly string[]): void;
  /** Adds to a number, 0 where there is none, and answers with the sum. */
  increment(key: string, delta?: number): number;
  /** Replaces what a key holds by what is made of it, and answers with that. If somebody else was faster, it is made anew. */
  update<T>(key: string, change: (held: T | undefined) => T): T;
  /** All its keys. */
  keys(): IterableIterator<string>;
  /** A bucket that functions share, by its name. */
  bucket(name: string): Bucket;
}

/** The function's own bucket. */
export const state: Bucket;

type Fields = Record<string, unknown>;

/** Lines of the log. `console` is logged as well. */
export const log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: unknown, fields?: Fields) => void>;

/** A variable or secret the manifest names in `allow.env` or `allow.secrets`. With a fallback that is a number or a boolean, it is read as one. */
export function config(name: string): string;
export function config(name: string, fallback: number): number;
export function config(name: string, fallback: boolean): boolean;
export function config(name: string, fallback: string): string;
export function config(name: string, fallback: undefined): string | undefined;

/** A parameter of the path: `{id}` in the manifest's `path`. */
export function param(request: Request, name: string): string;

/** What a function for requests exports by default, as elsewhere on the web. */
export interface Fetcher {
  fetch(request: Request, env: Record<string, string | undefined>, context: Context): Awaitable<Response>;
}

export interface Context {
  /** Has the sandbox wait for it after the answer. */
  waitUntil(promise: Promise<unknown>): void;
}
