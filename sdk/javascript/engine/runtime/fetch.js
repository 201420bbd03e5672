/** `Headers`, `Request`, `Response` and `fetch`. */
import { Body, incoming, write } from "./body.js";
import { engine, forget, global, waitFor } from "./native.js";

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

class Headers {
  #list = [];
  constructor(init) {
    if (init === undefined || init === null) return;
    const pairs = typeof init[Symbol.iterator] === "function" ? Array.from(init) : Object.entries(init);
    for (const pair of pairs) {
      if (pair.length !== 2) throw new TypeError("each header is a name and a value");
      this.append(pair[0], pair[1]);
    }
  }
  static #name(name) {
    if (!TOKEN.test(String(name))) throw new TypeError(`\`${name}\` is no name of a header`);
    return String(name).toLowerCase();
  }
  static #value(value) {
    const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
    if (/[\0\r\n]|[^\0-\xff]/.test(text)) throw new TypeError(`\`${text}\` can't be the value of a header`);
    return text;
  }
  append(name, value) {
    this.#list.push([Headers.#name(name), Headers.#value(value)]);
  }
  set(name, value) {
    this.delete(name);
    this.append(name, value);
  }
  delete(name) {
    const wanted = Headers.#name(name);
    this.#list = this.#list.filter((pair) => pair[0] !== wanted);
  }
  get(name) {
    const wanted = Headers.#name(name);
    const values = this.#list.filter((pair) => pair[0] === wanted).map((pair) => pair[1]);
    return values.length ? values.join(", ") : null;
  }
  has(name) {
    const wanted = Headers.#name(name);
    return this.#list.some((pair) => pair[0] === wanted);
  }
  getSetCookie() {
    return this.#list.filter((pair) => pair[0] === "set-cookie").map((pair) => pair[1]);
  }
  *entries() {
    const names = [...new Set(this.#list.map((pair) => pair[0]))].sort();
    for (const name of names) {
      if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name)];
    }
  }
  *keys() {
    for (const [name] of this.entries()) yield name;
  }
  *values() {
    for (const [, value] of this.entries()) yield value;
  }
  forEach(callback, self) {
    for (const [name, value] of this.entries()) callback.call(self, value, name, this);
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  get [Symbol.toStringTag]() {
    return "Headers";
  }
  /** `[name, value, name, value]`, as the engine has them. */
  _flat() {
    return this.#list.flat();
  }
  static _from(flat) {
    const headers = new Headers();
    for (let at = 0; at < flat.length; at += 2) headers.#list.push([flat[at].toLowerCase(), flat[at + 1]]);
    return headers;
  }
}

const KNOWN = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"];

class Request extends Body {
  constructor(input, init = {}) {
    const from = input instanceof Request ? input : undefined;
    const headers = new Headers(init.headers ?? from?.headers);
    const upper = String(init.method ?? from?.method ?? "GET").toUpperCase();
    const method = KNOWN.includes(upper) ? upper : String(init.method ?? from.method);
    if (!TOKEN.test(method)) throw new TypeError(`\`${method}\` is no method`);
    if ((method === "GET" || method === "HEAD") && init.body !== undefined && init.body !== null) {
      throw new TypeError(`a request with ${method} has no body`);
    }
    super(init.body ?? from?._move(), headers);
    this.method = method;
    this.url = from ? from.url : new URL(input).href;
    this.headers = headers;
    this.signal = init.signal ?? from?.signal ?? new AbortController().signal;
    this.redirect = init.redirect ?? from?.redirect ?? "follow";
    this.credentials = init.credentials ?? "same-origin";
    this.mode = init.mode ?? "cors";
    this.cache = init.cache ?? "default";
    this.referrer = "about:client";
  }
  clone() {
    return new Request(this.url, { method: this.method, headers: this.headers, body: this._tee(), signal: this.signal, redirect: this.redirect });
  }
}

const NO_BODY = [101, 204, 205, 304];

class Response extends Body {
  constructor(body, init = {}) {
    const headers = new Headers(init.headers);
    const status = init.status ?? 200;
    if (!Number.isInteger(status) || status < 200 || status > 599) throw new RangeError(`the status ${status} is none`);
    if (NO_BODY.includes(status) && body !== null && body !== undefined) throw new TypeError(`an answer with ${status} has no body`);
    super(body, headers);
    this.status = status;
    this.statusText = String(init.statusText ?? "");
    this.headers = headers;
    this.url = "";
    this.redirected = false;
    this.type = "default";
  }
  get ok() {
    return this.status >= 200 && this.status < 300;
  }
  clone() {
    const copy = new Response(null, this);
    return Object.assign(new Response(this._tee(), { status: this.status, statusText: this.statusText, headers: copy.headers }), { url: this.url });
  }
  static json(data, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("content-type")) headers.set("content-type", "application/json");
    return new Response(JSON.stringify(data), { ...init, headers });
  }
  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`${status} redirects nobody`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }
  static error() {
    return Object.assign(new Response(null), { type: "error", status: 0 });
  }
}

/** One request, and its answer as it comes. */
async function send(request, body) {
  const url = new URL(request.url);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new TypeError(`fetch: \`${url.protocol}\` can't be called, only http and https`);
  const headers = new Headers(request.headers);
  if (body && request._length !== undefined) headers.set("content-length", String(request._length));
  if (url.username) headers.set("authorization", `Basic ${btoa(decodeURIComponent(`${url.username}:${url.password}`))}`);
  if (!headers.has("accept")) headers.set("accept", "*/*");
  request.signal.throwIfAborted();

  let id;
  let onabort;
  const answered = new Promise((resolve, reject) => {
    id = waitFor(resolve);
    onabort = () => {
      forget(id);
      engine.abort(id);
      reject(request.signal.reason);
    };
    request.signal.addEventListener("abort", onabort);
  });
  answered.catch(() => {});
  try {
    const address = [url.protocol.slice(0, -1), url.host, url.pathname + url.search];
    const out = engine.send(id, request.method, address, headers._flat(), Boolean(body));
    // A server may answer before it has read all, and then read no more.
    if (out !== undefined && out !== null) write(out, body).catch(() => engine.drop(out));
    await answered;
    return engine.response(id);
  } catch (error) {
    if (request.signal.aborted) throw request.signal.reason;
    const denied = error.message === "denied" ? "the manifest doesn't allow it: add `allow: { http: [\"" + url.origin + "\"] }`" : error.message;
    throw new TypeError(`fetch ${request.method} ${url.origin}${url.pathname}: ${denied}`);
  } finally {
    request.signal.removeEventListener("abort", onabort);
  }
}

async function fetch(input, init) {
  let request = new Request(input, init);
  // What is sent again after a redirect has to be there still.
  let body = request._empty ? null : request._length !== undefined ? [await request.clone().bytes()] : request._pieces();
  for (let redirects = 0; ; redirects++) {
    const [status, headers, id] = await send(request, body);
    const list = Headers._from(headers);
    const location = [301, 302, 303, 307, 308].includes(status) && list.get("location");
    if (!location || request.redirect === "manual") {
      const none = NO_BODY.includes(status) || request.method === "HEAD";
      if (none) engine.drop(id);
      const response = new Response(none ? null : incoming(id), { status: Math.max(status, 200), headers: list });
      return Object.assign(response, { url: request.url, redirected: redirects > 0 });
    }
    engine.drop(id);
    if (request.redirect === "error") throw new TypeError(`fetch ${request.url}: it redirects to ${location}`);
    if (redirects === 20) throw new TypeError(`fetch ${request.url}: it redirects without end`);
    const url = new URL(location, request.url);
    const kept = new Headers(request.headers);
    let { method } = request;
    if ((status === 303 && method !== "HEAD") || ((status === 301 || status === 302) && method === "POST")) {
      method = "GET";
      body = null;
      for (const name of ["content-type", "content-length", "content-encoding", "content-language", "content-location"]) kept.delete(name);
    } else if (body && !Array.isArray(body)) throw new TypeError(`fetch ${request.url}: it redirects, and its body can't be sent again`);
    if (url.origin !== new URL(request.url).origin) for (const name of ["authorization", "cookie", "host"]) kept.delete(name);
    request = new Request(url, { method, headers: kept, body: body?.[0], signal: request.signal, redirect: request.redirect });
  }
}

global({ Headers, Request, Response, fetch });

/** A request as the engine hands it over. */
engine.hooks.request = ({ method, url, headers, body }) => {
  const bodiless = method === "GET" || method === "HEAD";
  const list = Headers._from(headers);
  const request = new Request(url, { method, headers: list, body: bodiless ? undefined : incoming(body) });
  if (bodiless) engine.drop(body);
  request.headers = list;
  return request;
};

/** Writes an answer: its head at once, its body as it comes. */
engine.hooks.answer = async (received, response) => {
  const headers = new Headers(response.headers);
  // These are the connection's, and the platform's business.
  for (const name of ["connection", "keep-alive", "transfer-encoding", "upgrade"]) headers.delete(name);
  if (response._length !== undefined && !NO_BODY.includes(response.status)) headers.set("content-length", String(response._length));
  const pieces = response._pieces();
  const out = received.respond(response.status, headers._flat());
  if (received.method === "HEAD") {
    engine.finish(out);
    return;
  }
  try {
    await write(out, pieces);
  } catch (error) {
    engine.drop(out);
    throw error;
  }
};
