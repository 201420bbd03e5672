/** Errors as text, with the lines of the sources. */
import { engine } from "./native.js";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
let lines;
let sources;

/** For each line of the program, what begins where: `[column, source, line, column]`. */
function read() {
  const map = engine.map ? JSON.parse(engine.map) : { mappings: "", sources: [] };
  sources = map.sources;
  let [source, line, column] = [0, 0, 0];
  lines = map.mappings.split(";").map((text) => {
    let at = 0;
    return text.split(",").filter(Boolean).map((segment) => {
      const numbers = [];
      let [value, shift] = [0, 0];
      for (const character of segment) {
        const digit = DIGITS.indexOf(character);
        value += (digit & 31) << shift;
        shift += 5;
        if (!(digit & 32)) {
          numbers.push(value & 1 ? -(value >> 1) : value >> 1);
          [value, shift] = [0, 0];
        }
      }
      at += numbers[0];
      if (numbers.length > 1) {
        source += numbers[1];
        line += numbers[2];
        column += numbers[3];
      }
      return [at, source, line, column];
    });
  });
}

/** Where a place of the program is in its sources. */
function place(line, column) {
  if (!lines) read();
  const segments = lines[line - 1] ?? [];
  let found;
  for (const segment of segments) {
    if (segment[0] > column - 1) break;
    found = segment;
  }
  return found && [sources[found[1]], found[2] + 1, found[3] + 1];
}

const OWN = /(^|\/)\.?dunlin\/sdk\/javascript\/|(^|\/)sdk\/javascript\/src\/|(^|\/)dunlin-entry\.js$/;

/** The stack of a function, without what is the SDK's or the engine's. */
function stack(text, constructors) {
  const frames = [];
  for (const frame of text.split("\n")) {
    const parts = /^\s*at (.*?) ?\(?([^()\s]+):(\d+):(\d+)\)?$/.exec(frame);
    if (!parts || parts[2] !== engine.program) continue;
    // An error is made in its constructor; where it was thrown is what counts.
    if (!frames.length && constructors.includes(parts[1])) continue;
    const at = place(Number(parts[3]), Number(parts[4]));
    // What is in none of the sources was put around them.
    if (at ? OWN.test(at[0]) : engine.map) continue;
    const where = at ? at.join(":") : `${parts[2]}:${parts[3]}:${parts[4]}`;
    const name = parts[1] === "<anonymous>" || parts[1] === "<eval>" ? "" : parts[1];
    frames.push(name ? `    at ${name} (${where})` : `    at ${where}`);
  }
  return frames.slice(0, 20);
}

/** `TypeName: message`, its stack, and what caused it. */
export function describe(error, seen = []) {
  if (!(error instanceof Error)) {
    let text;
    try {
      text = typeof error === "string" ? error : (JSON.stringify(error) ?? String(error));
    } catch {
      text = String(error);
    }
    return `thrown: ${text}`;
  }
  const name = error.name && error.name !== "Error" ? error.name : (error.constructor?.name ?? "Error");
  const constructors = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) constructors.push(kind.name);
  const described = [error.message ? `${name}: ${error.message}` : name, ...stack(error.stack ?? "", constructors)];
  if (error.cause !== undefined && !seen.includes(error.cause) && seen.length < 5) {
    described.push(`caused by ${describe(error.cause, [...seen, error])}`);
  }
  return described.join("\n");
}

engine.hooks.describe = describe;

const rejections = new Map();
engine.hooks.rejection = (promise, reason, handled) => {
  if (handled) rejections.delete(promise);
  else rejections.set(promise, reason);
};
/** Promises that failed, and nobody looked. */
engine.hooks.unhandled = () => {
  const reasons = [...rejections.values()];
  rejections.clear();
  return reasons;
};
