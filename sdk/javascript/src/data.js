/** The data of an event: how bytes become a value, and back. What they are follows from the content type alone. */
import { Reject } from "./errors.js";

const JSON_TYPE = /^[^;]*[/+]json\s*(;|$)/i;

const isJson = (type) => JSON_TYPE.test(type);

/** The content type, and the bytes; neither where there is no data. */
export function encode(data, type) {
  if (data === undefined || data === null) return [type, undefined];
  if (data instanceof Uint8Array) return [type ?? "application/octet-stream", data];
  if (ArrayBuffer.isView(data)) return [type ?? "application/octet-stream", new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
  if (data instanceof ArrayBuffer) return [type ?? "application/octet-stream", new Uint8Array(data)];
  if (type !== undefined && !isJson(type)) {
    if (typeof data !== "string") throw new TypeError(`data of the type \`${type}\` is text or bytes, not ${typeof data}`);
    return [type, new TextEncoder().encode(data)];
  }
  const text = JSON.stringify(data);
  if (text === undefined) throw new TypeError(`data can't be ${typeof data === "function" ? "a function" : "a symbol"}`);
  return [type ?? "application/json", new TextEncoder().encode(text)];
}

/** What the bytes are. Throws why they are not. */
function decode(bytes, type) {
  if (bytes === undefined || bytes === null) return undefined;
  if (type === undefined || type === null || isJson(type)) {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (error) {
      throw new Error(type ? error.message : `${error.message}; it has no content type, so it is read as JSON`);
    }
  }
  return /^text\//i.test(type) ? new TextDecoder().decode(bytes) : bytes;
}

/** `items[0].price` */
function dotted(path = []) {
  const keys = path.map((part) => (typeof part === "object" && part !== null ? part.key : part));
  return keys.map((key, index) => (typeof key === "number" ? `[${key}]` : index ? `.${String(key)}` : String(key))).join("");
}

async function checked(value, schema) {
  if (!schema) return value;
  const standard = schema["~standard"];
  // A library may hand out schemas that are functions.
  if (!standard) return schema(value);
  const result = await standard.validate(value);
  if (!result.issues) return result.value;
  const issues = result.issues.map(({ path, message }) => (path?.length ? `${dotted(path)}: ${message}` : message));
  throw new Error(issues.join("; "));
}

/** The data of a delivery, as the handler's schema has it. What doesn't fit is rejected. */
export async function read(delivery, schema) {
  try {
    return await checked(decode(delivery.data, delivery.datacontenttype), schema);
  } catch (error) {
    if (error instanceof Reject) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw Object.assign(new Reject(`the data of \`${delivery.id}\`, of type \`${delivery.type}\`, is wrong: ${message}`), { stack: "" });
  }
}
