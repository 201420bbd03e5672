/** State: values under keys, in buckets. */
import { platform } from "#platform";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function written(key, value) {
  if (value instanceof Uint8Array) return value;
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`the value for \`${key}\` can't be written: it is ${typeof value}. To take it away, \`delete\` it`);
  return encoder.encode(text);
}

function parsed(key, bytes) {
  if (bytes === undefined || bytes === null) return undefined;
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch (error) {
    throw new TypeError(`\`${key}\` holds no JSON: ${error.message}; \`getBytes\` has it as it is`);
  }
}

class Bucket {
  #name;
  constructor(name) {
    this.#name = name;
  }

  #call(operation, ...parameters) {
    try {
      return platform[operation](this.#name, ...parameters);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error) {
    const own = this.#name === "default";
    const reasons = {
      denied: `the manifest doesn't allow it: add \`allow: { state: ${own ? "true" : `[${this.#name}]`} }\`, and build again`,
      missing: "there is no such bucket",
    };
    return new Error(`${own ? "the function's state" : `the state \`${this.#name}\``}: ${reasons[error.message] ?? error.message}`);
  }

  bucket(name) {
    return new Bucket(String(name));
  }

  get(key) {
    return parsed(key, this.getBytes(key));
  }
  set(key, value) {
    this.#call("set", key, written(key, value));
  }
  getBytes(key) {
    return this.#call("get", key) ?? undefined;
  }
  delete(key) {
    this.#call("delete", key);
  }
  exists(key) {
    return this.#call("exists", key);
  }

  getMany(keys) {
    return this.#call("getMany", keys).map((bytes, index) => parsed(keys[index], bytes));
  }
  setMany(values) {
    const entries = values instanceof Map ? [...values] : Object.entries(values);
    this.#call("setMany", entries.map(([key]) => key), entries.map(([key, value]) => written(key, value)));
  }
  deleteMany(keys) {
    this.#call("deleteMany", keys);
  }

  increment(key, delta = 1) {
    if (!Number.isSafeInteger(delta)) throw new TypeError(`a number is raised by a whole number, not by ${delta}`);
    return this.#call("increment", key, delta);
  }

  update(key, change) {
    let [handle, held] = this.#call("look", key);
    for (;;) {
      const value = change(parsed(key, held));
      if (value instanceof Promise) throw new TypeError("`update` takes a function that isn't async: it may be called more than once");
      let changed;
      const bytes = written(key, value);
      try {
        changed = platform.swap(handle, bytes);
      } catch (error) {
        throw this.#failed(error);
      }
      if (!changed) return value;
      [handle, held] = changed;
    }
  }

  *keys() {
    for (let cursor; ; ) {
      const [keys, next] = this.#call("keys", cursor);
      yield* keys;
      if (next === undefined || next === null) return;
      cursor = next;
    }
  }
}

export const state = new Bucket("default");
