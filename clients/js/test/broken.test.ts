import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { PenstockApiError, type Penstock } from "penstock-client";
import { all, client, killApi, photo, refusedAs, slow, url } from "./server.js";

test("streams of events and waits survive that the server is killed under them", async () => {
  const pauses: PenstockApiError[] = [];
  const patient = client({ onPause: (error) => pauses.push(error) });
  const { task_id } = await patient.submit(slow(40));
  const waited = patient.wait(task_id);
  const ids: string[] = [];
  for await (const { id } of patient.events(task_id)) if (ids.push(id) === 4) killApi();

  assert.equal((await waited).status, "SUCCESS");
  assert.equal(new Set(ids).size, ids.length, "no event comes twice");
  assert.ok(pauses.length >= 2 && pauses.every(({ code, retryable }) => code === "unreachable" && retryable));
});

test("a submit whose answer is lost does not become two tasks", async () => {
  const lost = client({ fetch: lose(1) });
  const submitted = await lost.submit({ ...slow(1), metadata: { lost: `${process.pid}` } });
  const made = client().list({ metadata: { lost: `${process.pid}` } });

  assert.equal(submitted.replayed, true);
  for await (const { task_id } of made) assert.equal(task_id, submitted.task_id);
});

test("the lines of a batch go on where their connection broke, each of them once", async () => {
  const lines = Array.from({ length: 20 }, (_, n) => ({ custom_id: `${n}`, input: photo, params: { tile_s: 0.001 } }));
  const { batch_id } = await client().submitBatch({ lines, defaults: { model: "slow-v1", reuse: false } });
  await client().waitBatch(batch_id);
  const whole = await all(client().batchLines(batch_id));
  let breaks = 0;
  const breaking: typeof fetch = async (to, how) => {
    const answer = await fetch(to, how);
    if (!String(to).includes("/results") || breaks++ > 2) return answer;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return new Response(brokenAfter(bytes.slice(0, bytes.length / 3)), answer);
  };

  assert.deepEqual(await all(client({ fetch: breaking }).batchLines(batch_id)), whole);
  assert.equal(breaks, 4);
});

test("whoever has seen enough leaves nothing open", async () => {
  const signals: AbortSignal[] = [];
  const watched = client({ fetch: (to, how) => (signals.push(how!.signal!), fetch(to, how)) });
  const { task_id } = await watched.submit(slow(1));
  for await (const { event } of watched.events(task_id)) if (event === "status") break;

  assert.equal(signals.length, 2);
  assert.ok(signals.every(({ aborted }) => aborted));
  await client().wait(task_id);
});

test("what is not safe to repeat is sent once", async () => {
  const lost = client({ fetch: lose(1) });
  const body = { tenant: "acme", name: `once-${process.pid}` };

  await assert.rejects(lost.call("createKey", { body }), refusedAs("unreachable"));
  const { data } = await client().call("listKeys", { query: { tenant: "acme" } });
  assert.equal(data.filter(({ name }) => name === body.name).length, 1);
});

test("a result that was damaged on its way is fetched again", async () => {
  const { task_id } = await client().run({ ...slow(1), params: { product: "file" } });
  let damaged = 0;
  const spoiled: typeof fetch = async (to, how) => {
    const answer = await fetch(to, how);
    return String(to).includes("/result") && !damaged++ ? new Response("y".repeat(1000), answer) : answer;
  };

  assert.equal(await (await client({ fetch: spoiled }).result(task_id)).text(), "x".repeat(1000));
  assert.equal(damaged, 2);
});

test("a server that is away is given up after the patience, and one that is silent too", async () => {
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  const { port } = silent.address() as AddressInfo;

  await assert.rejects(
    client({ url: `http://127.0.0.1:${port}`, patienceSeconds: 2 }).models(),
    refusedAs("unreachable"),
  );
  silent.closeAllConnections();
  await new Promise((resolve) => silent.close(resolve));
  await assert.rejects(client({ url: `http://127.0.0.1:${port}`, patienceSeconds: 1 }).models(), /ECONNREFUSED/);
});

test("streams that somebody else answers are not followed for ever", async () => {
  const answering = (text: string, type: string): Penstock =>
    client({ fetch: async () => new Response(text, { headers: { "content-type": type } }), patienceSeconds: 1 });
  const page = answering("<html>\n\n", "text/html");

  await assert.rejects(all(page.events("tsk_x")), refusedAs("http_200"));
  await assert.rejects(all(page.batchLines("bat_x")), refusedAs("http_200"));
  await assert.rejects(all(answering("", "text/event-stream").events("tsk_x")), refusedAs("unreachable"));
});

test("what a proxy answers is an error of its own", async () => {
  const answers = [
    new Response("<html>", { status: 502 }),
    new Response("<html>", { status: 403 }),
    new Response("<html>"),
  ];
  const proxied = client({ fetch: () => Promise.resolve(answers.shift()!) });

  await assert.rejects(proxied.models(), {
    code: "http_403",
    status: 403,
    retryable: false,
    detail: /not as Penstock does/,
  });
  await assert.rejects(proxied.models(), {
    code: "http_200",
    detail: `${new URL(url).host} answered, and not as Penstock does`,
  });
});

/** A body whose connection breaks after these bytes. */
function brokenAfter(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull(out): void {
      if (bytes.length) out.enqueue(bytes);
      else out.error(new TypeError("the connection broke"));
      bytes = new Uint8Array();
    },
  });
}

/** A fetch that loses the first answers. */
function lose(count: number): typeof fetch {
  return async (to, how) => {
    const answer = await fetch(to, how);
    if (count-- <= 0) return answer;
    await answer.arrayBuffer();
    throw new TypeError("the answer was lost");
  };
}
