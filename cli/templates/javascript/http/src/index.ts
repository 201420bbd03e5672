/** Answers `GET /{{name}}/{who}`. */
import { Reject, param, type Fetcher } from "dunlin";

export default {
  async fetch(request) {
    const who = param(request, "who");
    if (who.length > 100) throw new Reject("that is a long name"); // answered with 400
    return Response.json({ greeting: `Hello, ${who}!` });
  },
} satisfies Fetcher;
