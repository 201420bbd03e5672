import { platform } from "#platform";

const text = (value) => (typeof value === "string" ? value : value instanceof Error ? platform.describe(value) : (JSON.stringify(value) ?? String(value)));

const line = (level) => (message, fields = {}) => {
  platform.log(level, text(message), Object.entries(fields).filter(([, value]) => value !== undefined).flatMap(([name, value]) => [name, text(value)]));
};

export const log = { trace: line("trace"), debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
