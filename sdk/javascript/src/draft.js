/** Events on their way out. */
import { encode } from "./data.js";
import { Event } from "./event.js";

export function draft(event) {
  if (!(event instanceof Event)) throw new TypeError(`it is no Event: ${typeof event === "object" ? JSON.stringify(event) : String(event)}; make one by Event.of(type, data)`);
  const [datacontenttype, data] = encode(event.data, event.datacontenttype);
  const { id, source, type, subject, time, dataschema } = event;
  if (typeof type !== "string") throw new TypeError("the `type` of an event is a string");
  const extensions = {};
  for (const [name, value] of Object.entries(event.extensions)) {
    if (value === undefined || value === null) continue;
    if (!["string", "boolean"].includes(typeof value) && !(Number.isInteger(value) && Math.abs(value) < 2 ** 31)) {
      throw new TypeError(`the extension \`${name}\` of an event is a string, a boolean or a whole number of 32 bits: ${String(value)}`);
    }
    extensions[name] = value;
  }
  return { id, source, type, subject, time, datacontenttype, dataschema, extensions, data };
}
