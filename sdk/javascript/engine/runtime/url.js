/** `URL` and `URLSearchParams`. */
import { engine, global } from "./native.js";

const HEX = /^[0-9a-fA-F]{2}$/;

function unescape(text) {
  const bytes = [];
  const encoded = engine.encode(text.replace(/\+/g, " "));
  for (let at = 0; at < encoded.length; at++) {
    const hex = encoded[at] === 0x25 ? String.fromCharCode(encoded[at + 1] ?? 0, encoded[at + 2] ?? 0) : "";
    if (HEX.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      at += 2;
    } else bytes.push(encoded[at]);
  }
  return engine.decode(Uint8Array.from(bytes), false);
}

function escape(text) {
  return encodeURIComponent(text.toWellFormed()).replace(/[!'()~]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`).replace(/%20/g, "+");
}

class URLSearchParams {
  #list = [];
  #changed;
  constructor(init = "", changed) {
    this.#changed = changed;
    if (typeof init === "object" && init !== null) {
      const pairs = typeof init[Symbol.iterator] === "function" ? Array.from(init) : Object.entries(init);
      for (const pair of pairs) {
        const [name, value, ...more] = pair;
        if (value === undefined || more.length) throw new TypeError("each parameter is a name and a value");
        this.#list.push([String(name), String(value)]);
      }
    } else this._read(String(init));
  }
  _read(text) {
    this.#list = text.replace(/^\?/, "").split("&").filter(Boolean).map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [unescape(pair), ""] : [unescape(pair.slice(0, at)), unescape(pair.slice(at + 1))];
    });
  }
  get size() {
    return this.#list.length;
  }
  append(name, value) {
    this.#list.push([String(name), String(value)]);
    this.#changed?.();
  }
  delete(name, value) {
    this.#list = this.#list.filter((pair) => pair[0] !== String(name) || (value !== undefined && pair[1] !== String(value)));
    this.#changed?.();
  }
  get(name) {
    return this.#list.find((pair) => pair[0] === String(name))?.[1] ?? null;
  }
  getAll(name) {
    return this.#list.filter((pair) => pair[0] === String(name)).map((pair) => pair[1]);
  }
  has(name, value) {
    return this.#list.some((pair) => pair[0] === String(name) && (value === undefined || pair[1] === String(value)));
  }
  set(name, value) {
    const first = this.#list.find((pair) => pair[0] === String(name));
    if (!first) return this.append(name, value);
    first[1] = String(value);
    this.#list = this.#list.filter((pair) => pair === first || pair[0] !== String(name));
    this.#changed?.();
  }
  sort() {
    this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#changed?.();
  }
  forEach(callback, self) {
    for (const [name, value] of this.#list) callback.call(self, value, name, this);
  }
  *entries() {
    for (const [name, value] of this.#list) yield [name, value];
  }
  *keys() {
    for (const [name] of this.#list) yield name;
  }
  *values() {
    for (const [, value] of this.#list) yield value;
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  toString() {
    return this.#list.map((pair) => pair.map(escape).join("=")).join("&");
  }
  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }
}

const PARTS = ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

class URL {
  #parts;
  #query;
  constructor(url, base) {
    this.#parts = engine.parseUrl(String(url), base === undefined ? undefined : String(base));
    if (!this.#parts) throw new TypeError(`Invalid URL: ${url}`);
  }
  static canParse(url, base) {
    return Boolean(engine.parseUrl(String(url), base === undefined ? undefined : String(base)));
  }
  static parse(url, base) {
    return URL.canParse(url, base) ? new URL(url, base) : null;
  }
  static {
    for (const [index, name] of PARTS.entries()) {
      const set = {
        href: function (value) {
          this.#parts = new URL(value).#parts;
          this.#query?._read(this.search);
        },
        origin: undefined,
      };
      const change = function (value) {
        this.#parts = engine.changeUrl(this.href, name, String(value)) ?? this.#parts;
        if (name === "search") this.#query?._read(this.search);
      };
      Object.defineProperty(URL.prototype, name, {
        get() {
          return this.#parts[index];
        },
        set: name in set ? set[name] : change,
        enumerable: true,
        configurable: true,
      });
    }
  }
  get searchParams() {
    this.#query ??= new URLSearchParams(this.search, () => {
      this.#parts = engine.changeUrl(this.href, "search", this.#query.toString()) ?? this.#parts;
    });
    return this.#query;
  }
  toString() {
    return this.href;
  }
  toJSON() {
    return this.href;
  }
  get [Symbol.toStringTag]() {
    return "URL";
  }
}

global({ URL, URLSearchParams });
