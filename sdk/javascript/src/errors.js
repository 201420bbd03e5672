/** What a handler throws. */

export class Reject extends Error {
  static {
    this.prototype.name = "Reject";
  }
}

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds, of a number of them or of `30s`. */
function millis(after) {
  const parts = typeof after === "string" && /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(after.trim());
  const number = parts ? Number(parts[1]) * UNITS[parts[2]] : after;
  if (typeof number !== "number" || !(number >= 0)) {
    throw new TypeError(`\`after\` is a number of milliseconds, or a time such as "30s": ${JSON.stringify(after)}`);
  }
  return Math.ceil(number);
}

export class Retry extends Error {
  static {
    this.prototype.name = "Retry";
  }
  constructor(message, options = {}) {
    super(message, options);
    if (options.after !== undefined) this.after = millis(options.after);
  }
}
