/**
 * What a program finds of the web's interfaces, over what the engine offers. It is bundled into the function
 * `(native) => …`, which is called once, when a function is built.
 */
import { ByteLengthQueuingStrategy, CountQueuingStrategy, ReadableStream, TransformStream, WritableStream } from "web-streams-polyfill";
import { engine, global } from "./native.js";

global({ self: globalThis, ReadableStream, WritableStream, TransformStream, ByteLengthQueuingStrategy, CountQueuingStrategy });

import "./errors.js";
import "./time.js";
import "./console.js";
import "./text.js";
import "./url.js";
import "./events.js";
import "./crypto.js";
import "./body.js";
import "./fetch.js";

global({ navigator: { userAgent: "dunlin" } });

class TextDecoderStream extends TransformStream {
  constructor(label, options) {
    const decoder = new TextDecoder(label, options);
    super({
      transform: (piece, controller) => controller.enqueue(decoder.decode(piece, { stream: true })),
      flush(controller) {
        const rest = decoder.decode();
        if (rest) controller.enqueue(rest);
      },
    });
  }
}
class TextEncoderStream extends TransformStream {
  constructor() {
    super({ transform: (piece, controller) => controller.enqueue(engine.encode(String(piece))) });
  }
}
global({ TextDecoderStream, TextEncoderStream });

// The SDK takes it from here, and leaves what is to be called in `hooks`.
Object.defineProperty(globalThis, Symbol.for("dunlin.engine"), { value: engine, configurable: true });
