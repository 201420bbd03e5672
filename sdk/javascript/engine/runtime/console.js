/** `console`: lines of the log. */
import { describe } from "./errors.js";
import { engine, global } from "./native.js";

export function show(value, depth = 0, seen = []) {
  if (typeof value === "string") return depth ? JSON.stringify(value) : value;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `[Function ${value.name || "(anonymous)"}]`;
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : String(value);
  if (value instanceof Error) return describe(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Promise) return "Promise {}";
  if (seen.includes(value)) return "[Circular]";
  if (depth > 4) return Array.isArray(value) ? "[Array]" : "[Object]";
  const inner = (other) => show(other, depth + 1, [...seen, value]);
  const name = value.constructor && value.constructor !== Object ? `${value.constructor.name} ` : "";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const items = Array.from(value).slice(0, 100).map(inner);
    if (value.length > 100) items.push(`… ${value.length - 100} more`);
    return `${Array.isArray(value) ? "" : `${name.trim()}(${value.length}) `}[${items.length ? ` ${items.join(", ")} ` : ""}]`;
  }
  const entries =
    value instanceof Map ? Array.from(value, ([key, other]) => `${inner(key)} => ${inner(other)}`)
    : value instanceof Set ? Array.from(value, inner)
    : Object.entries(value).map(([key, other]) => `${/^[\w$]+$/.test(key) ? key : JSON.stringify(key)}: ${inner(other)}`);
  return `${name}{${entries.length ? ` ${entries.join(", ")} ` : ""}}`;
}

/** Node's way with `%s` and the like. */
export function format(values) {
  const rest = [...values];
  let text = "";
  if (typeof rest[0] === "string" && rest.length > 1) {
    text = rest.shift().replace(/%[sdifjoOc%]/g, (code) => {
      if (code === "%%") return "%";
      if (!rest.length) return code;
      const value = rest.shift();
      if (code === "%c") return "";
      if (code === "%d") return String(Number(value));
      if (code === "%i") return String(Number.parseInt(value, 10));
      if (code === "%f") return String(Number.parseFloat(value));
      if (code === "%j") return JSON.stringify(value);
      return code === "%s" ? String(value) : show(value, 1);
    });
    return [text, ...rest.map((value) => show(value))].join(" ");
  }
  return rest.map((value) => show(value)).join(" ");
}

let indent = "";
const line = (level) => (...values) => engine.log(level, format(values).replace(/^/gm, indent), []);
const [counts, timers] = [new Map(), new Map()];
const info = line("info");

global({
  console: {
    log: info,
    info,
    debug: line("debug"),
    warn: line("warn"),
    error: line("error"),
    trace: (...values) => engine.log("trace", describe(Object.assign(new Error(format(values)), { name: "Trace" })), []),
    dir: info,
    table: info,
    assert: (condition, ...values) => condition || line("error")("Assertion failed:", ...values),
    count(label = "default") {
      counts.set(label, (counts.get(label) ?? 0) + 1);
      info(`${label}: ${counts.get(label)}`);
    },
    countReset: (label = "default") => void counts.delete(label),
    time: (label = "default") => void timers.set(label, performance.now()),
    timeLog: (label = "default", ...rest) => info(`${label}: ${(performance.now() - timers.get(label)).toFixed(3)}ms`, ...rest),
    timeEnd(label = "default") {
      this.timeLog(label);
      timers.delete(label);
    },
    group(...values) {
      if (values.length) info(...values);
      indent += "  ";
    },
    groupCollapsed(...values) {
      this.group(...values);
    },
    groupEnd() {
      indent = indent.slice(2);
    },
  },
});
