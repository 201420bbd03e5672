/** Timers, the clock, and chance. */
import { engine, forget, global, waitFor } from "./native.js";

function setTimeout(callback, delay = 0, ...rest) {
  const id = waitFor(() => callback(...rest));
  engine.sleep(id, Number(delay) || 0);
  return id;
}

const repeated = new Map();

function setInterval(callback, delay = 0, ...rest) {
  let current;
  const step = () => {
    repeated.set(first, (current = setTimeout(step, delay)));
    callback(...rest);
  };
  const first = setTimeout(step, delay);
  repeated.set(first, first);
  return first;
}

function clearTimeout(id) {
  forget(repeated.get(id) ?? id);
  repeated.delete(id);
}

function queueMicrotask(callback) {
  Promise.resolve().then(callback);
}

global({ setTimeout, setInterval, clearTimeout, clearInterval: clearTimeout, queueMicrotask });
global({ setImmediate: (callback, ...rest) => setTimeout(callback, 0, ...rest), clearImmediate: clearTimeout });

// QuickJS seeds it when it starts, which is when the function is built: every sandbox would draw the same numbers.
let state;
Math.random = () => {
  if (!state) {
    const bytes = engine.random(16);
    state = new Uint32Array(bytes.buffer, bytes.byteOffset, 4);
    state[0] |= 1;
  }
  let t = state[3];
  const s = state[0];
  state[3] = state[2];
  state[2] = state[1];
  state[1] = s;
  t ^= t << 11;
  t ^= t >>> 8;
  state[0] = t ^ s ^ (s >>> 19);
  return (state[0] * 2097152 + (state[1] >>> 11)) / 9007199254740992;
};
Object.defineProperty(Math.random, "name", { value: "random" });

function structuredClone(value, _options, seen = new Map()) {
  if (typeof value === "function" || typeof value === "symbol") {
    throw new DOMException(`${String(value)} could not be cloned.`, "DataCloneError");
  }
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = (copy) => (seen.set(value, copy), copy);
  const clone = (inner) => structuredClone(inner, undefined, seen);
  if (value instanceof Date) return keep(new Date(value));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    if (value instanceof DataView) return keep(new DataView(clone(value.buffer), value.byteOffset, value.byteLength));
    return keep(new value.constructor(clone(value.buffer), value.byteOffset, value.length));
  }
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [key, inner] of value) copy.set(clone(key), clone(inner));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const inner of value) copy.add(clone(inner));
    return copy;
  }
  const copy = keep(Array.isArray(value) ? [] : value instanceof Error ? Object.create(Object.getPrototypeOf(value)) : {});
  if (value instanceof Error) {
    for (const name of ["name", "message", "stack", "cause"]) {
      if (name in value) Object.defineProperty(copy, name, { value: clone(value[name]), writable: true, configurable: true });
    }
  }
  for (const key of Object.keys(value)) copy[key] = clone(value[key]);
  return copy;
}

global({ structuredClone });
