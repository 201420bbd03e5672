/**
 * What a program finds of the web's interfaces, looked at from inside: a function for requests that answers with what is
 * wrong, and with `ok` if nothing is. `GET /` checks what needs nobody else; `POST /echo` and `/stream` are called by it.
 */
const failures: string[] = [];
let current = "";

function same(actual: unknown, expected: unknown) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) failures.push(`${current}: ${a}, not ${b}`);
}

async function throws(work: () => unknown, message: RegExp) {
  try {
    await work();
    failures.push(`${current}: nothing was thrown`);
  } catch (error) {
    if (!message.test(String(error))) failures.push(`${current}: ${error}`);
  }
}

const bytes = (...values: number[]) => new Uint8Array(values);

const checks: Record<string, (origin: string) => unknown> = {
  async url() {
    const url = new URL("../b?x=1&y=a+b#f", "https://user:pw@Example.com:8443/a/c/d");
    same([url.href, url.origin, url.host, url.port, url.pathname, url.search, url.hash, url.username], ["https://user:pw@example.com:8443/a/b?x=1&y=a+b#f", "https://example.com:8443", "example.com:8443", "8443", "/a/b", "?x=1&y=a+b", "#f", "user"]);
    url.searchParams.append("z", "ä&");
    same(url.search, "?x=1&y=a+b&z=%C3%A4%26");
    url.pathname = "/é";
    url.search = "";
    same([url.href, url.searchParams.size], ["https://user:pw@example.com:8443/%C3%A9#f", 0]);
    same([URL.canParse("nonsense"), URL.parse("nonsense")], [false, null]);
    await throws(() => new URL("nonsense"), /TypeError: Invalid URL/);
    const params = new URLSearchParams({ b: "1", a: "2" });
    params.sort();
    same([params.toString(), [...params.keys()], params.get("x")], ["a=2&b=1", ["a", "b"], null]);
    same(JSON.stringify({ url }), '{"url":"https://user:pw@example.com:8443/%C3%A9#f"}');
  },
  async text() {
    const text = "aä€😀";
    same([...new TextEncoder().encode(text)], [97, 195, 164, 226, 130, 172, 240, 159, 152, 128]);
    same(new TextDecoder().decode(new TextEncoder().encode(text)), text);
    const decoder = new TextDecoder();
    same([...new TextEncoder().encode(text)].map((byte) => decoder.decode(bytes(byte), { stream: true })).join("") + decoder.decode(), text);
    await throws(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes(255)), /TypeError/);
    same(new TextDecoder("latin1").decode(bytes(0xe9, 0x80)), "é€");
    same([btoa("hi"), atob("aGk=")], ["aGk=", "hi"]);
  },
  async headers() {
    const headers = new Headers({ "X-B": "1", a: " 2 " });
    headers.append("x-b", "3");
    headers.append("set-cookie", "a=1");
    headers.append("set-cookie", "b=2");
    same([...headers], [["a", "2"], ["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-b", "1, 3"]]);
    same(headers.getSetCookie(), ["a=1", "b=2"]);
    await throws(() => headers.set("a b", "1"), /no name of a header/);
    await throws(() => headers.set("a", "1\r\nb: 2"), /can't be the value/);
  },
  async bodies() {
    const response = Response.json({ a: 1 }, { status: 201 });
    const copy = response.clone();
    same([response.status, response.ok, response.headers.get("content-type"), await response.json(), response.bodyUsed], [201, true, "application/json", { a: 1 }, true]);
    same(await copy.text(), '{"a":1}');
    await throws(() => response.text(), /read before/);
    const form = new FormData();
    form.append("name", "ä");
    form.append("file", new File(["x\r\ny"], "a.txt", { type: "text/plain" }));
    const read = await new Response(form).formData();
    const file = read.get("file") as File;
    same([read.get("name"), file.name, file.type, await file.text()], ["ä", "a.txt", "text/plain", "x\r\ny"]);
    same([...(await new Request("http://a/", { method: "POST", body: new URLSearchParams("a=1&b=2") }).formData())], [["a", "1"], ["b", "2"]]);
    await throws(() => new Request("http://a/", { body: "x" }), /has no body/);
    await throws(() => new Response("x", { status: 204 }), /has no body/);
  },
  async streams() {
    const stream = new ReadableStream({
      start(controller) {
        controller.enqueue("a");
        controller.enqueue("b");
        controller.close();
      },
    });
    const upper = new TransformStream({ transform: (piece, controller) => controller.enqueue(piece.toUpperCase()) });
    same(await new Response(stream.pipeThrough(upper).pipeThrough(new TextEncoderStream())).text(), "AB");
    const [one, other] = new Response("xy").body!.tee();
    same([await new Response(one).text(), await new Response(other).text()], ["xy", "xy"]);
    let all = "";
    for await (const piece of new Response("loop").body! as any) all += new TextDecoder().decode(piece);
    same(all, "loop");
  },
  async time() {
    const order: string[] = [];
    setTimeout(() => order.push("20"), 20);
    setTimeout((x: string) => order.push(x), 1, "1");
    const cancelled = setTimeout(() => order.push("never"), 5);
    clearTimeout(cancelled);
    queueMicrotask(() => order.push("micro"));
    let ticks = 0;
    await new Promise<void>((resolve) => {
      const interval = setInterval(() => {
        if (++ticks < 3) return;
        clearInterval(interval);
        resolve();
      }, 2);
    });
    const begun = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 30));
    same([order, ticks, performance.now() - begun >= 29, Date.now() > 1.7e12], [["micro", "1", "20"], 3, true, true]);
    same(Math.random() === Math.random(), false);
  },
  async events() {
    const controller = new AbortController();
    const seen: string[] = [];
    controller.signal.addEventListener("abort", () => seen.push("abort"), { once: true });
    controller.abort(new Error("enough"));
    controller.abort();
    same([seen, controller.signal.aborted, String(controller.signal.reason)], [["abort"], true, "Error: enough"]);
    same(AbortSignal.any([AbortSignal.abort(), new AbortController().signal]).aborted, true);
  },
  async crypto() {
    const hex = (buffer: ArrayBuffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const text = new TextEncoder().encode("abc");
    same(hex(await crypto.subtle.digest("SHA-256", text)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    same(hex(await crypto.subtle.digest({ name: "SHA-1" }, text)), "a9993e364706816aba3e25717850c26c9cd0d89d");
    const key = await crypto.subtle.importKey("raw", new TextEncoder().encode("key"), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
    const signature = await crypto.subtle.sign("HMAC", key, text);
    same(hex(signature), "9c196e32dc0175f86f4b1cb89289d6619de6bee699e4c378e68309ed97a1a6ab");
    same([await crypto.subtle.verify("HMAC", key, signature, text), await crypto.subtle.verify("HMAC", key, signature, bytes(1))], [true, false]);
    same([/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()), crypto.getRandomValues(new Uint8Array(8)).some(Boolean)], [true, true]);
  },
  async clone() {
    const value: any = { date: new Date(5), map: new Map([["a", new Set([1])]]), bytes: bytes(1, 2), list: [1, [2]] };
    value.self = value;
    const copy = structuredClone(value);
    same([copy.date.getTime(), copy.map.get("a").has(1), [...copy.bytes], copy.list, copy.self === copy, copy.list === value.list], [5, true, [1, 2], [1, [2]], true, false]);
    await throws(() => structuredClone(() => 1), /could not be cloned/);
  },
  async fetching(origin) {
    const echo = await fetch(`${origin}/echo?x=ä`, { method: "PUT", body: "päyload", headers: { "x-mine": "1" } });
    const seen = await echo.json();
    same([echo.status, echo.url, seen.method, seen.mine, seen.text, seen.query], [200, `${origin}/echo?x=%C3%A4`, "PUT", "1", "päyload", "ä"]);
    const [a, b] = await Promise.all([fetch(`${origin}/slow?ms=120`), fetch(`${origin}/slow?ms=120`)]);
    same([await a.text(), await b.text()], ["120", "120"]);
    const begun = Date.now();
    await Promise.all([1, 2, 3].map(() => fetch(`${origin}/slow?ms=150`).then((response) => response.text())));
    same(Date.now() - begun < 400, true);
    const redirected = await fetch(`${origin}/redirect`, { method: "POST", body: "x" });
    same([redirected.redirected, (await redirected.json()).method], [true, "GET"]);
    same((await fetch(`${origin}/redirect`, { redirect: "manual" })).status, 302);
    let length = 0;
    for await (const piece of (await fetch(`${origin}/stream`)).body! as any) length += piece.length;
    same(length, 20 * 65536);
    const big = "x".repeat(3 << 20);
    same((await (await fetch(`${origin}/echo`, { method: "POST", body: big })).json()).text.length, big.length);
    const streamed = new ReadableStream({ async pull(controller) { await null; controller.enqueue(new TextEncoder().encode("piece")); controller.close(); } });
    same((await (await fetch(`${origin}/echo`, { method: "POST", body: streamed, duplex: "half" } as any)).json()).text, "piece");
    await throws(() => fetch(`${origin}/slow?ms=2000`, { signal: AbortSignal.timeout(50) }), /TimeoutError/);
    await throws(() => fetch("http://127.0.0.1:1/"), /TypeError: fetch GET http:\/\/127\.0\.0\.1:1\/: /);
    await throws(() => fetch("ftp://a/"), /only http and https/);
  },
};

export default {
  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const path = url.pathname.replace(/^\/[^/]+/, "");
    const origin = url.origin + url.pathname.slice(0, url.pathname.length - path.length);
    if (path === "/echo") {
      return Response.json({ method: request.method, mine: request.headers.get("x-mine"), text: await request.text(), query: url.searchParams.get("x") });
    }
    if (path === "/slow") {
      const millis = Number(url.searchParams.get("ms"));
      await new Promise((resolve) => setTimeout(resolve, millis));
      return new Response(String(millis));
    }
    if (path === "/redirect") return Response.redirect(`${origin}/echo`);
    if (path === "/stream") {
      let left = 20;
      return new Response(
        new ReadableStream({
          async pull(controller) {
            await new Promise((resolve) => setTimeout(resolve, 1));
            controller.enqueue(new Uint8Array(65536));
            if (!--left) controller.close();
          },
        }),
      );
    }
    failures.length = 0;
    for (const [name, check] of Object.entries(checks)) {
      current = name;
      try {
        await check(origin);
      } catch (error) {
        failures.push(`${name}: ${error} ${(error as Error).stack}`);
      }
    }
    return new Response(failures.length ? failures.join("\n") : "ok", { status: failures.length ? 500 : 200 });
  },
};
