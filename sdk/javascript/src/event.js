/** Events, received and new: one type. */

/** What `Event.of` takes beside extensions, and what an event has. */
const ATTRIBUTES = ["id", "source", "subject", "time", "datacontenttype", "dataschema"];

/** The extension by whose value events are kept in their order. */
const KEY = "partitionkey";

export class Event {
  constructor(fields) {
    this.id = fields.id;
    this.source = fields.source;
    this.type = fields.type;
    this.subject = fields.subject;
    this.time = fields.time;
    this.datacontenttype = fields.datacontenttype;
    this.dataschema = fields.dataschema;
    this.extensions = fields.extensions ?? {};
    this.topic = fields.topic;
    this.offset = fields.offset;
    this.attempt = fields.attempt;
    this.data = fields.data;
    // What it hasn't is not there, so that events can be compared.
    for (const name of Object.keys(this)) if (this[name] === undefined || this[name] === null) delete this[name];
  }

  static of(type, data, { key, extensions, ...attributes } = {}) {
    for (const name of Object.keys(attributes)) {
      if (!ATTRIBUTES.includes(name)) {
        throw new TypeError(`\`${name}\` is no attribute of an event: there are ${[...ATTRIBUTES, "key"].join(", ")}, and your own go into \`extensions\``);
      }
    }
    const time = attributes.time instanceof Date ? attributes.time.toISOString() : attributes.time;
    return new Event({ ...attributes, time, type, data, extensions: { ...extensions, ...(key !== undefined && { [KEY]: String(key) }) } });
  }

  get key() {
    return this.extensions[KEY];
  }
}
