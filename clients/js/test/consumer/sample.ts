// What somebody else writes: all of the client, under the strictest checks, and what these must refuse.
import {
  failureOf,
  isFinal,
  Penstock,
  PenstockApiError,
  sendUpload,
  verifyWebhook,
  WebhookError,
  type Batch,
  type Filter,
  type Hit,
  type Line,
  type Model,
  type Progress,
  type Quote,
  type Settings,
  type Task,
  type TaskEvent,
  type TaskRequest,
  type Upload,
} from "penstock-client";

const settings: Settings = {
  url: "http://127.0.0.1:8000",
  apiKey: "pen_x",
  tenant: "acme",
  onPause: (error) => error.code,
};

export async function everything(photo: Blob, signal: AbortSignal): Promise<void> {
  const penstock = new Penstock(settings);
  const upload: Upload = await penstock.upload(photo, {
    signal,
    name: "photo.jpg",
    onProgress: (sent, size) => sent / size,
  });
  const request: TaskRequest = {
    model: "superres-x4",
    input: upload,
    params: { variant: "general" },
    output: { format: "webp", quality: 80 },
    priority: "high",
    metadata: { album: "42" },
    links: { token: true },
    webhook: { url: "https://example.com/told", events: ["succeeded"] },
    retry: { max_attempts: 2 },
    finish_within_s: 60,
  };
  const quote: Quote = await penstock.quote(request, { signal });
  const { task_id, links, replayed } = await penstock.submit(request, { signal });
  const page = new Penstock({ url: penstock.url, token: links.token });
  for await (const event of page.events(task_id, { signal, lastEventId: "" })) shown(event);
  const task: Task = await penstock.wait(task_id, { timeoutSeconds: 10, signal });
  const failure: PenstockApiError | null = isFinal(task) ? failureOf(task) : null;
  const score: unknown = (await penstock.run({ model: "m@2", input: { image: photo, prompt: "hi" } })).result?.data?.[
    "score"
  ];
  const result: Blob = await penstock.result(task_id, { name: "mask.png" });
  const blockers: string[] = (await penstock.explain(task_id)).blockers.map(({ code }) => code);
  const log: string = await penstock.log(task_id);
  await Promise.all([
    penstock.cancel(task_id),
    penstock.retry(task_id),
    penstock.delete(task_id),
    penstock.get(task_id),
  ]);

  const filter: Filter = {
    status: ["SUCCESS"],
    model: "m",
    priority: "low",
    batch_id: "bat_x",
    created_after: new Date(),
    metadata: { a: "b" },
  };
  for await (const one of penstock.list(filter)) one.attempts.map(({ device }) => device);
  const hit: Hit = await penstock.deleteMatching({ ...filter, status: ["FAILED"] }, { dryRun: true });
  await penstock.cancelMatching({ status: ["PENDING"] }, { every: true });
  await penstock.retryMatching({ status: ["EXPIRED"], model: "m" }, { signal });

  const batch: Batch = await penstock.submitBatch({
    defaults: { model: "m" },
    lines: [{ custom_id: "a", input: photo }],
  });
  const ended: Batch = await penstock.waitBatch(batch.batch_id, { timeoutSeconds: 1 });
  for await (const line of penstock.batchLines(ended.batch_id, { start: 1 })) lined(line);
  for await (const one of penstock.listBatches())
    await penstock.cancelBatch(one.batch_id).then(() => penstock.deleteBatch(one.batch_id));
  await penstock.getBatch(batch.batch_id);

  const models: Model[] = (await penstock.models()).data;
  const versions = (await penstock.model("m")).versions.length;
  const used: number | undefined = (await penstock.call("readUsage", { query: { from: "2026-01-01" } })).data[0]?.total
    .device_seconds;
  const waiting: number | undefined = (await penstock.call("listQueues")).data[0]?.depth;
  const key: string = (await penstock.call("createKey", { body: { tenant: "acme", scopes: ["read"] } }, { signal }))
    .key;
  await sendUpload(await penstock.call("openUpload", { body: { size: photo.size } }), photo, { signal });
  console.log(
    quote.eta_s,
    replayed,
    failure?.retryAfter,
    score,
    result,
    blockers,
    log,
    hit.changed,
    models,
    versions,
    used,
    key,
  );
}

function shown(event: TaskEvent): void {
  if (event.event === "progress") console.log((event.data satisfies Progress).ratio);
  else console.log((event.data satisfies Task).status);
}

function lined(line: Line): void {
  console.log(line.result?.url ?? line.error?.code);
}

export async function told(body: string, headers: Headers): Promise<string> {
  try {
    return (await verifyWebhook(body, headers, "whsec_x")).type;
  } catch (error) {
    return error instanceof WebhookError ? error.message : "";
  }
}

export async function refused(penstock: Penstock): Promise<void> {
  // @ts-expect-error: a task has a model
  await penstock.submit({ input: "https://example.com/photo.jpg" });
  // @ts-expect-error: no such priority
  await penstock.submit({ model: "m", input: "https://example.com/photo.jpg", priority: "urgent" });
  // @ts-expect-error: a number is no input
  await penstock.run({ model: "m", input: 7 });
  // @ts-expect-error: no such filter
  for await (const _ of penstock.list({ modle: "m" }));
  // @ts-expect-error: a task that runs cannot be deleted
  await penstock.deleteMatching({ status: ["RUNNING"] });
  // @ts-expect-error: no such operation
  await penstock.call("drainWorkers", {});
  // @ts-expect-error: a parameter of the path is missing
  await penstock.call("drainWorker", {});
  // @ts-expect-error: progress has no status
  for await (const event of penstock.events("tsk_x")) if (event.event === "progress") event.data.status;
}
