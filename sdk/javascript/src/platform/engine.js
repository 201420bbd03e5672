/** The platform, by what the engine offers (`engine/src/native.rs`). */

const engine = globalThis[Symbol.for("dunlin.engine")];

let stuck;
/** Called when nothing is left that could go on. */
engine.hooks.stuck = () => {
  const reject = stuck;
  stuck = undefined;
  reject?.(new Error("it waits for a promise that nothing will settle"));
  return Boolean(reject);
};

export const platform = Object.assign(Object.create(engine), {
  describe: engine.hooks.describe,
  /** The platform looks at what is returned. */
  checked: (drafts) => drafts,
  /** What the call comes to, or why it never will. */
  async settled(call) {
    try {
      return await Promise.race([new Promise((_, reject) => (stuck = reject)), (async () => call())()]);
    } finally {
      stuck = undefined;
    }
  },
});
