import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Penstock, PenstockApiError, type Filter, type Task, type TaskEvent } from "penstock-client";
import { all, client, photo, refusedAs, slow, url } from "./server.js";

const penstock = client();
const score = { model: "image-scoring-v1", input: photo };

test("a task runs, and its result is what the server has stored", async () => {
  const image = new File([photo], "photo.jpg", { type: "image/jpeg" });
  const task = await penstock.run({ model: "superres-x4", input: image, output: { format: "webp" } });
  const result = await penstock.result(task.task_id);

  assert.equal(result.type, "image/webp");
  assert.equal(
    createHash("sha256")
      .update(Buffer.from(await result.arrayBuffer()))
      .digest("hex"),
    task.result?.sha256,
  );
});

test("a model that gives data gives it in the task, and as the result", async () => {
  const seen: TaskEvent[] = [];
  const { task_id, result } = await penstock.run(score, { onEvent: (event) => seen.push(event) });

  assert.equal(seen.at(-1)?.event, "completed");
  assert.ok(Number(result?.data?.["score"]) > 1);
  assert.deepEqual(JSON.parse(await (await penstock.result(task_id)).text()), result?.data);
});

test("a file of several is found by its name", async () => {
  const { task_id } = await penstock.run({ ...slow(1), params: { product: "several files" } });

  assert.equal(await (await penstock.result(task_id, { name: "mask.png" })).text(), "mask");
  await assert.rejects(penstock.result(task_id, { name: "other.png" }), refusedAs("not_found"));
  await assert.rejects(penstock.result(task_id, { name: ".." }), TypeError);
});

test("events tell of the beginning, of progress, and of the end", async () => {
  const { task_id } = await penstock.submit(slow(6));
  const events = await all(penstock.events(task_id));

  assert.equal(events[0]?.event, "status");
  assert.ok(events.some(({ event }) => event === "progress"));
  assert.equal((events.at(-1)?.data as Task).status, "SUCCESS");
  assert.deepEqual(await all(penstock.events(task_id, { lastEventId: events.at(-1)!.id })), []);
});

test("a task token reads its task, and no other", async () => {
  const { links } = await penstock.submit({ ...slow(2), links: { token: true } });
  const other = await penstock.submit(slow(1));
  const page = new Penstock({ url, token: links.token });
  const taskId = links.self.split("/").at(-1)!;

  assert.equal((await all(page.events(taskId))).at(-1)?.event, "completed");
  assert.equal((await page.wait(taskId)).status, "SUCCESS");
  assert.equal(JSON.parse(await (await page.result(taskId)).text()).tiles, 2);
  await assert.rejects(page.get(other.task_id), refusedAs("unauthorized"));
  await assert.rejects(page.cancel(taskId), PenstockApiError);
});

test("two callers with one client_request_id share one task", async () => {
  const request = { ...slow(1), client_request_id: `order-${Date.now()}` };
  const [one, two] = await Promise.all([penstock.submit(request), client().submit(request)]);

  assert.equal(one.task_id, two.task_id);
  assert.deepEqual([one.replayed, two.replayed].sort(), [false, true]);
  await assert.rejects(penstock.submit({ ...request, priority: "high" }), refusedAs("idempotency_mismatch"));
});

test("a refusal says what is wrong, and where", async () => {
  const wrong = { ...score, params: { grid: "x" } };
  await assert.rejects(penstock.submit(wrong), {
    name: "PenstockApiError",
    status: 422,
    param: "params.grid",
    retryable: false,
  });
  await assert.rejects(penstock.run({ ...score, input: new Uint8Array([1, 2, 3]) }), PenstockApiError);
  await assert.rejects(client({ apiKey: "pen_wrong" }).models(), refusedAs("unauthorized"));
  assert.throws(() => client({ apiKey: "käse\n" }), TypeError);
  assert.throws(() => client({ url: "penstock" }), TypeError);
});

test("a quota is refused with the time when it may be tried again, and not tried beyond the patience", async () => {
  const { tenant } = (await penstock.call("readUsage", {})).data[0]!;
  await penstock.call("setQuotas", { path: { tenant }, body: { submits_per_minute: 1 } });
  try {
    const refused: unknown = await client({ patienceSeconds: 5 })
      .submit(slow(1))
      .then(() => client({ patienceSeconds: 5 }).submit(slow(1)))
      .catch((error: unknown) => error);
    assert.ok(refused instanceof PenstockApiError && refused.retryable && Number(refused.retryAfter) > 5);
    assert.deepEqual([refused.code, refused.status, refused.quota], ["quota_exceeded", 429, "submits_per_minute"]);
  } finally {
    await penstock.call("resetQuotas", { path: { tenant } });
  }
});

test("a signal ends a call at once, and the task goes on", async () => {
  const { task_id } = await penstock.submit(slow(5));
  const stop = new AbortController();
  const calls = [penstock.wait(task_id, stop), all(penstock.events(task_id, stop)), penstock.run(slow(5), stop)];
  setTimeout(() => stop.abort(new Error("enough")), 100);

  for (const call of calls) await assert.rejects(call, /enough/);
  await assert.rejects(penstock.get(task_id, stop), /enough/);
  await assert.rejects(penstock.wait(task_id, { timeoutSeconds: 0.05 }), { name: "TimeoutError" });
  assert.equal((await penstock.wait(task_id)).status, "SUCCESS");
});

test("a task is canceled, retried, explained and deleted", async () => {
  await penstock.call("pauseQueue", { path: { model: "slow-v1" } }, { repeat: true });
  const { task_id } = await penstock.submit(slow(1));
  const { blockers } = await penstock.explain(task_id);
  const canceled = await penstock.cancel(task_id);
  const retried = await penstock.retry(task_id);
  await penstock.call("resumeQueue", { path: { model: "slow-v1" } }, { repeat: true });
  await penstock.wait(task_id);
  await penstock.delete(task_id);

  assert.ok(blockers.some(({ code }) => code === "queue_paused"));
  assert.deepEqual([canceled.status, retried.status], ["CANCELED", "PENDING"]);
  await assert.rejects(penstock.get(task_id), refusedAs("result_expired"));
  await assert.rejects(penstock.log(""), TypeError);
});

test("tasks are listed and acted on by what they have", async () => {
  const album = `of ${Date.now()}`;
  const begun = new Date();
  for (const n of [1, 2, 3]) await penstock.run({ ...slow(n, 0.01), metadata: { album, n: `${n}` }, priority: "high" });
  const which: Filter = { metadata: { album }, created_after: begun, priority: "high", model: "slow-v1" };
  const ended: Filter<"deleteTasks"> = { ...which, status: ["SUCCESS", "FAILED"] };

  assert.deepEqual(
    (await all(penstock.list(ended))).map(({ metadata }) => metadata["n"]),
    ["3", "2", "1"],
  );
  assert.deepEqual(await all(penstock.list({ ...which, created_before: begun })), []);
  assert.equal((await penstock.cancelMatching({ ...which, status: ["PENDING"] })).matched, 0);
  assert.equal((await penstock.retryMatching({ ...which, status: ["FAILED"] })).matched, 0);
  const would = await penstock.deleteMatching(ended, { dryRun: true });
  assert.deepEqual([would.matched, would.changed, would.task_ids.length], [3, 0, 3]);
  assert.equal((await penstock.deleteMatching(ended)).changed, 3);
  await assert.rejects(penstock.deleteMatching({ status: ["EXPIRED"] }), refusedAs("invalid_request"));
  const forgotten = { status: ["EXPIRED"], metadata: { album: undefined } } as unknown as Filter<"deleteTasks">;
  await assert.rejects(penstock.deleteMatching(forgotten), TypeError);
  assert.equal((await penstock.deleteMatching({ status: ["EXPIRED"] }, { every: true })).changed, 0);
});

test("a quote says what is ahead, and models what there is", async () => {
  const quote = await penstock.quote(score);

  assert.equal(quote.input?.width, 225);
  assert.ok((await penstock.models()).data.some(({ name }) => name === "slow-v1"));
  assert.equal((await penstock.model("superres-x4@1")).name, "superres-x4");
});

test("any operation is called by its name", async () => {
  const [worker] = (await penstock.call("listWorkers", {})).data;
  const drained = await penstock.call("drainWorker", { path: { worker_id: worker!.id } });
  const resumed = await penstock.call("resumeWorker", { path: { worker_id: worker!.id } }, { repeat: true });

  assert.deepEqual([drained.state, resumed.state], ["DRAINING", "READY"]);
});
