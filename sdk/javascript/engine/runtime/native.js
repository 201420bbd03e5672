/** What the engine offers: the parameter of the function all of this is bundled into. */
// eslint-disable-next-line no-undef
export const engine = native;

let next = 1;
const waiting = new Map();

/** A promise that is resolved when what `begin` has waited for by that number is ready. */
export function ready(begin) {
  const id = next++;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    begin(id);
  });
}

/** The number by which `resolve` is called later. */
export function waitFor(resolve) {
  const id = next++;
  waiting.set(id, resolve);
  return id;
}

export function forget(id) {
  if (waiting.delete(id)) engine.cancel(id);
}

engine.hooks.fire = (id) => {
  const resolve = waiting.get(id);
  waiting.delete(id);
  resolve?.(id);
};

/** When a call has ended, so has what it waited for. */
engine.hooks.ended = () => waiting.clear();

/** Sets what a program finds as a global. */
export function global(values) {
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}
