/** `EventTarget` and `AbortController`. */
import { global } from "./native.js";

class Event {
  constructor(type, init = {}) {
    this.type = String(type);
    this.bubbles = Boolean(init.bubbles);
    this.cancelable = Boolean(init.cancelable);
    this.defaultPrevented = false;
    this.target = this.currentTarget = null;
    this.timeStamp = performance.now();
  }
  preventDefault() {
    if (this.cancelable) this.defaultPrevented = true;
  }
  stopPropagation() {}
  stopImmediatePropagation() {
    this._stopped = true;
  }
}

class CustomEvent extends Event {
  constructor(type, init = {}) {
    super(type, init);
    this.detail = init.detail ?? null;
  }
}

class EventTarget {
  #listeners = [];
  addEventListener(type, callback, options = {}) {
    if (!callback || this.#listeners.some((other) => other.type === type && other.callback === callback)) return;
    const once = typeof options === "object" && options.once;
    this.#listeners.push({ type, callback, once });
    if (options.signal) options.signal.addEventListener("abort", () => this.removeEventListener(type, callback));
  }
  removeEventListener(type, callback) {
    this.#listeners = this.#listeners.filter((other) => other.type !== type || other.callback !== callback);
  }
  dispatchEvent(event) {
    event.target = event.currentTarget = this;
    const called = [{ callback: this[`on${event.type}`] }, ...this.#listeners.filter((listener) => listener.type === event.type)];
    for (const { callback, once } of called) {
      if (event._stopped) break;
      if (once) this.removeEventListener(event.type, callback);
      if (typeof callback === "function") callback.call(this, event);
      else callback?.handleEvent?.(event);
    }
    return !event.defaultPrevented;
  }
}

let abort;

class AbortSignal extends EventTarget {
  #reason;
  #aborted = false;
  onabort = null;
  static {
    abort = (signal, reason = new DOMException("This operation was aborted", "AbortError")) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      signal.dispatchEvent(new Event("abort"));
    };
  }
  get aborted() {
    return this.#aborted;
  }
  get reason() {
    return this.#reason;
  }
  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }
  static abort(reason) {
    const signal = new AbortSignal();
    abort(signal, reason);
    return signal;
  }
  static timeout(millis) {
    const signal = new AbortSignal();
    setTimeout(() => abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError")), millis);
    return signal;
  }
  static any(signals) {
    const signal = new AbortSignal();
    for (const other of signals) {
      if (other.aborted) abort(signal, other.reason);
      else other.addEventListener("abort", () => abort(signal, other.reason), { once: true });
    }
    return signal;
  }
}

class AbortController {
  signal = new AbortSignal();
  abort(reason) {
    abort(this.signal, reason);
  }
}

global({ Event, CustomEvent, EventTarget, AbortSignal, AbortController });
