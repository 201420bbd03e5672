/** `crypto`: random values, digests, HMAC. */
import { engine, global } from "./native.js";
import { asBytes } from "./text.js";

const hash = (algorithm) => (typeof algorithm === "string" ? algorithm : algorithm.name).toUpperCase();
const buffer = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);

class CryptoKey {
  #bytes;
  static bytes = (key) => key.#bytes;
  constructor(bytes, algorithm, extractable, usages) {
    this.#bytes = bytes;
    Object.assign(this, { type: "secret", algorithm, extractable, usages });
  }
}
const { bytes: keyBytes } = CryptoKey;
delete CryptoKey.bytes;

function only(name, allowed) {
  if (name !== allowed) throw new DOMException(`\`${name}\` is not supported: digests and HMAC are`, "NotSupportedError");
}

const subtle = {
  async digest(algorithm, data) {
    return buffer(engine.digest(hash(algorithm), asBytes(data)));
  },
  async importKey(format, data, algorithm, extractable, usages) {
    only(hash(algorithm), "HMAC");
    if (format !== "raw") throw new DOMException(`keys are imported as \`raw\`, not as \`${format}\``, "NotSupportedError");
    return new CryptoKey(asBytes(data).slice(), { name: "HMAC", hash: { name: hash(algorithm.hash) } }, extractable, usages);
  },
  async exportKey(_format, key) {
    if (!key.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    return buffer(keyBytes(key));
  },
  async sign(algorithm, key, data) {
    only(hash(algorithm), "HMAC");
    return buffer(engine.hmac(key.algorithm.hash.name, keyBytes(key), asBytes(data)));
  },
  async verify(algorithm, key, signature, data) {
    only(hash(algorithm), "HMAC");
    const [right, given] = [engine.hmac(key.algorithm.hash.name, keyBytes(key), asBytes(data)), asBytes(signature)];
    // In the same time wherever they differ.
    let difference = right.length ^ given.length;
    for (let at = 0; at < right.length; at++) difference |= right[at] ^ (given[at] ?? 0);
    return difference === 0;
  },
};

function getRandomValues(array) {
  const bytes = asBytes(array);
  if (bytes.length > 65536) throw new DOMException("at most 65536 bytes at a time", "QuotaExceededError");
  bytes.set(engine.random(bytes.length));
  return array;
}

function randomUUID() {
  const bytes = engine.random(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

global({ crypto: { subtle, getRandomValues, randomUUID }, CryptoKey });
