import { platform } from "#platform";

export function config(name, fallback) {
  const value = platform.env(name) ?? undefined;
  if (value === undefined) {
    if (arguments.length > 1) return fallback;
    throw new Error(`\`${name}\` is not set: name it in the manifest's \`allow.env\` or \`allow.secrets\``);
  }
  // The value stays out of the errors: it may be a secret.
  if (typeof fallback === "number") {
    const number = Number(value);
    if (value.trim() === "" || Number.isNaN(number)) throw new Error(`\`${name}\` is no number`);
    return number;
  }
  if (typeof fallback === "boolean") {
    if (value !== "true" && value !== "false") throw new Error(`\`${name}\` is neither \`true\` nor \`false\``);
    return value === "true";
  }
  return value;
}
