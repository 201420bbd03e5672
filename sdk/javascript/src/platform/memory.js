/**
 * A platform in memory, for tests. It refuses what the platform refuses about keys, values and events, so that a test fails
 * where a run would.
 */
const MAX_KEY = 1024;
const MAX_VALUE = 1 << 20;
const CORE = ["id", "source", "type", "subject", "time", "dataschema", "datacontenttype", "specversion", "data", "data_base64"];

const empty = () => ({ published: [], buckets: new Map(), logged: [], variables: new Map(), made: 0 });

export let host = empty();

export function reset() {
  host = empty();
}

/** A copy of what a run may change. */
export function saved() {
  return { published: [...host.published], buckets: new Map(Array.from(host.buckets, ([name, values]) => [name, new Map(values)])) };
}

export function restore({ published, buckets }) {
  Object.assign(host, { published, buckets });
}

function check(draft) {
  if (draft.type === "") throw new Error("`type` is empty");
  for (const name of ["id", "source", "subject", "time", "datacontenttype", "dataschema"]) {
    if (draft[name] === "") throw new Error(`\`${name}\` is empty; leave it out`);
  }
  for (const name of Object.keys(draft.extensions)) {
    if (CORE.includes(name)) throw new Error(`\`${name}\` is no extension: the specification defines it`);
    if (!/^[a-z0-9]+$/.test(name)) throw new Error(`\`${name}\` is not the name of an attribute: use lowercase letters and digits`);
  }
}

function bucket(name) {
  if (!host.buckets.has(name)) host.buckets.set(name, new Map());
  return host.buckets.get(name);
}

function checkKey(key) {
  if (typeof key !== "string") throw new TypeError(`a key is a string, not ${typeof key}`);
  const length = new TextEncoder().encode(key).length;
  const wrong = length === 0 ? "this one is empty" : length > MAX_KEY ? `this one has ${length} bytes` : /\p{Cc}/u.test(key) ? `${JSON.stringify(key)} has some` : undefined;
  if (wrong) throw new Error(`a key has 1 to ${MAX_KEY} bytes and no control characters: ${wrong}`);
}

const looked = new Map();

export const platform = {
  log(level, message, fields) {
    // A test that fails shows what it printed.
    const shown = fields.map((part, index) => (index % 2 ? `=${part}` : ` ${part}`)).join("");
    console.log(`${level.toUpperCase()} ${message}${shown}`);
    const named = {};
    for (let index = 0; index < fields.length; index += 2) named[fields[index]] = fields[index + 1];
    host.logged.push({ level, message, fields: named });
  },
  publish(topic, drafts) {
    if (!String(topic).split(".").every((part) => /^[a-z0-9_-]+$/.test(part))) {
      throw new Error("it is not a topic name: use lowercase letters, digits, `-` and `_`, in parts separated by dots");
    }
    drafts.forEach(check);
    for (const draft of drafts) host.published.push({ topic, draft });
  },
  checked(drafts) {
    drafts.forEach(check);
    return drafts;
  },
  settled: async (call) => call(),
  env: (name) => host.variables.get(name) ?? process.env[name],
  describe: (error) => (error instanceof Error ? (error.stack ?? `${error.name}: ${error.message}`) : `thrown: ${String(error)}`),

  get(name, key) {
    checkKey(key);
    return bucket(name).get(key);
  },
  set(name, key, value) {
    checkKey(key);
    if (value.length > MAX_VALUE) throw new Error(`a value has up to ${MAX_VALUE} bytes: \`${key}\` would have ${value.length}`);
    bucket(name).set(key, value.slice());
  },
  delete(name, key) {
    checkKey(key);
    bucket(name).delete(key);
  },
  exists(name, key) {
    checkKey(key);
    return bucket(name).has(key);
  },
  keys(name, cursor) {
    // The pages are short, so that a test meets more than one.
    const rest = [...bucket(name).keys()].sort().filter((key) => cursor === undefined || key > cursor);
    return rest.length > 10 ? [rest.slice(0, 10), rest[9]] : [rest, undefined];
  },
  getMany: (name, keys) => keys.map((key) => platform.get(name, key)),
  setMany(name, keys, values) {
    const before = new Map(bucket(name));
    try {
      keys.forEach((key, index) => platform.set(name, key, values[index]));
    } catch (error) {
      host.buckets.set(name, before);
      throw error;
    }
  },
  deleteMany(name, keys) {
    keys.forEach(checkKey);
    for (const key of keys) platform.delete(name, key);
  },
  increment(name, key, delta) {
    const held = platform.get(name, key);
    const text = held === undefined ? "0" : new TextDecoder().decode(held);
    if (!/^[+-]?\d+$/.test(text)) throw new Error(`\`${key}\` holds no number`);
    const sum = Number(text) + delta;
    platform.set(name, key, new TextEncoder().encode(String(sum)));
    return sum;
  },
  look(name, key) {
    const held = platform.get(name, key);
    const handle = looked.size + 1;
    looked.set(handle, { name, key, held });
    return [handle, held];
  },
  swap(handle, value) {
    const { name, key, held } = looked.get(handle);
    if (platform.get(name, key) !== held) return platform.look(name, key);
    platform.set(name, key, value);
    return undefined;
  },
};
