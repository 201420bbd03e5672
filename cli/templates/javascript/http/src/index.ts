import { Reject, type Fetcher } from "dunlin";

export default {
  async fetch(request) {
    const name = new URL(request.url).searchParams.get("name") ?? "world";
    if (name === "") throw new Reject("`name` is empty"); // answered with 400
    return Response.json({ greeting: `Hello, ${name}!` });
  },
} satisfies Fetcher;
