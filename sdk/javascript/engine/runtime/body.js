/** Bodies: `Blob`, `FormData`, and what `Request` and `Response` have in common. */
import { ReadableStream } from "web-streams-polyfill";
import { engine, global, ready } from "./native.js";
import { asBytes } from "./text.js";

const own = (bytes) => (bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer);

function join(pieces) {
  if (pieces.length === 1) return pieces[0];
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

class Blob {
  #bytes;
  static {
    blobBytes = (blob) => blob.#bytes;
  }
  constructor(parts = [], options = {}) {
    this.#bytes = join([new Uint8Array(), ...Array.from(parts, (part) => (part instanceof Blob ? part.#bytes : typeof part === "object" ? asBytes(part) : engine.encode(String(part))))]);
    this.type = String(options.type ?? "").toLowerCase();
  }
  get size() {
    return this.#bytes.length;
  }
  slice(start, end, type) {
    return new Blob([this.#bytes.slice(start, end)], { type });
  }
  async arrayBuffer() {
    return this.#bytes.slice().buffer;
  }
  async bytes() {
    return this.#bytes.slice();
  }
  async text() {
    return engine.decode(this.#bytes, false);
  }
  stream() {
    return ReadableStream.from([this.#bytes]);
  }
}
var blobBytes;

class File extends Blob {
  constructor(parts, name, options = {}) {
    super(parts, options);
    this.name = String(name);
    this.lastModified = options.lastModified ?? Date.now();
  }
}

class FormData {
  #list = [];
  append(name, value, file) {
    const entry = value instanceof Blob ? (value instanceof File && file === undefined ? value : new File([value], file ?? "blob", { type: value.type })) : String(value);
    this.#list.push([String(name), entry]);
  }
  set(name, value, file) {
    this.delete(name);
    this.append(name, value, file);
  }
  delete(name) {
    this.#list = this.#list.filter((pair) => pair[0] !== name);
  }
  get(name) {
    return this.#list.find((pair) => pair[0] === name)?.[1] ?? null;
  }
  getAll(name) {
    return this.#list.filter((pair) => pair[0] === name).map((pair) => pair[1]);
  }
  has(name) {
    return this.#list.some((pair) => pair[0] === name);
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
}

const quoted = (text) => text.replace(/\r\n|\r|\n/g, "%0D%0A").replace(/"/g, "%22");

function encodeForm(form) {
  const boundary = `----dunlin${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}`;
  const pieces = [];
  for (const [name, value] of form) {
    const file = value instanceof Blob ? `; filename="${quoted(value.name)}"\r\ncontent-type: ${value.type || "application/octet-stream"}` : "";
    pieces.push(engine.encode(`--${boundary}\r\ncontent-disposition: form-data; name="${quoted(name)}"${file}\r\n\r\n`));
    pieces.push(value instanceof Blob ? blobBytes(value) : engine.encode(value), engine.encode("\r\n"));
  }
  pieces.push(engine.encode(`--${boundary}--\r\n`));
  return [join(pieces), `multipart/form-data; boundary=${boundary}`];
}

function find(bytes, wanted, from) {
  for (let at = bytes.indexOf(wanted[0], from); at >= 0 && at + wanted.length <= bytes.length; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}

function decodeForm(bytes, type) {
  const form = new FormData();
  if (/^application\/x-www-form-urlencoded/i.test(type)) {
    for (const [name, value] of new URLSearchParams(engine.decode(bytes, false))) form.append(name, value);
    return form;
  }
  const boundary = /^multipart\/form-data.*;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(type);
  if (!boundary) throw new TypeError(`a body of \`${type || "no content type"}\` is no form`);
  const [line, gap] = [engine.encode(`--${boundary[1] ?? boundary[2]}`), engine.encode("\r\n\r\n")];
  for (let at = find(bytes, line, 0); at >= 0; ) {
    const start = at + line.length;
    const next = find(bytes, line, start);
    const middle = find(bytes, gap, start);
    if (next < 0 || middle < 0 || middle > next) break;
    const head = engine.decode(bytes.subarray(start, middle), false);
    const unquote = (text) => text?.replace(/%22/g, '"').replace(/%0D%0A/gi, "\r\n");
    const name = unquote(/[;\s]name="([^"]*)"/i.exec(head)?.[1]);
    const file = unquote(/[;\s]filename="([^"]*)"/i.exec(head)?.[1]);
    const data = bytes.slice(middle + 4, next - 2);
    if (name !== undefined && file !== undefined) form.append(name, new File([data], file, { type: /content-type:\s*([^\r\n]+)/i.exec(head)?.[1] ?? "text/plain" }));
    else if (name !== undefined) form.append(name, engine.decode(data, false));
    at = next;
  }
  return form;
}

/** A body the engine reads. */
class Incoming {
  constructor(id) {
    this.id = id;
  }
  async next() {
    for (;;) {
      const piece = engine.read(this.id);
      if (piece === undefined) engine.drop(this.id);
      if (piece !== null) return piece;
      await ready((waiting) => engine.subscribe(this.id, waiting));
    }
  }
}

export const incoming = (id) => new Incoming(id);

/** Writes all of a body, by the number the engine has for it. */
export async function write(id, pieces) {
  for await (const piece of pieces) {
    const bytes = typeof piece === "string" ? engine.encode(piece) : asBytes(piece);
    for (let at = 0; at < bytes.length; ) {
      const taken = engine.write(id, bytes, at);
      at += taken;
      if (!taken) await ready((waiting) => engine.subscribe(id, waiting));
    }
    if (pieces.length === undefined) engine.flushed(id);
  }
  engine.finish(id);
}

/** What a body is given as, and the content type that follows from it. */
function read(init) {
  if (init === null || init === undefined) return [null, null];
  if (init instanceof ReadableStream || init instanceof Incoming) return [init, null];
  if (init instanceof URLSearchParams) return [engine.encode(init.toString()), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (init instanceof FormData) return encodeForm(init);
  if (init instanceof Blob) return [blobBytes(init), init.type || null];
  if (ArrayBuffer.isView(init) || init instanceof ArrayBuffer) return [asBytes(init).slice(), null];
  if (typeof init === "object" && typeof init[Symbol.asyncIterator] === "function") return [ReadableStream.from(init), null];
  return [engine.encode(String(init)), "text/plain;charset=UTF-8"];
}

export class Body {
  #source;
  #stream = null;
  #used = false;
  constructor(init, headers) {
    const [source, type] = read(init);
    this.#source = source;
    if (type && !headers.has("content-type")) headers.set("content-type", type);
  }
  get bodyUsed() {
    return this.#used || Boolean(this.#stream?._disturbed);
  }
  get body() {
    if (this.#source === null) return null;
    if (!this.#stream) {
      const source = this.#source;
      this.#stream =
        source instanceof ReadableStream ? source
        : source instanceof Incoming ?
          new ReadableStream({
            type: "bytes",
            async pull(controller) {
              const piece = await source.next();
              if (piece === undefined) {
                controller.close();
                controller.byobRequest?.respond(0);
              } else controller.enqueue(piece);
            },
            cancel: () => engine.drop(source.id),
          })
        : new ReadableStream({
            type: "bytes",
            start(controller) {
              if (source.length) controller.enqueue(source.slice());
              controller.close();
            },
          });
    }
    return this.#stream;
  }
  /** All of it, in pieces; each can be had once. */
  _pieces() {
    if (this.bodyUsed || this.#stream?.locked) throw new TypeError("the body was read before");
    this.#used = this.#source !== null;
    const source = this.#stream ?? this.#source;
    if (source === null) return [];
    if (source instanceof Uint8Array) return [source];
    if (source instanceof ReadableStream) return source;
    return {
      async *[Symbol.asyncIterator]() {
        for (let piece; (piece = await source.next()) !== undefined; ) yield piece;
      },
    };
  }
  /** Its length, where it is known. */
  get _length() {
    if (this.#stream) return undefined;
    return this.#source === null ? 0 : this.#source instanceof Uint8Array ? this.#source.length : undefined;
  }
  get _empty() {
    return this.#source === null;
  }
  /** A second body of the same content. */
  _tee() {
    if (this.bodyUsed) throw new TypeError("the body was read before");
    if (this.#source === null || (this.#source instanceof Uint8Array && !this.#stream)) return this.#source;
    const [one, other] = this.body.tee();
    this.#source = this.#stream = one;
    return other;
  }
  /** What it is, handed on to another. */
  _move() {
    if (this.bodyUsed) throw new TypeError("the body was read before");
    this.#used = this.#source !== null;
    return this.#stream ?? this.#source;
  }
  async bytes() {
    const pieces = [];
    for await (const piece of this._pieces()) pieces.push(typeof piece === "string" ? engine.encode(piece) : asBytes(piece));
    return pieces.length ? join(pieces) : new Uint8Array();
  }
  async arrayBuffer() {
    return own(await this.bytes());
  }
  async text() {
    return engine.decode(await this.bytes(), false).replace(/^\ufeff/, "");
  }
  async json() {
    return JSON.parse(await this.text());
  }
  async blob() {
    return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" });
  }
  async formData() {
    return decodeForm(await this.bytes(), this.headers.get("content-type") ?? "");
  }
}

global({ Blob, File, FormData });
