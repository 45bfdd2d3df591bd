// With a client made by hey-api: score a photo twice in a batch, and read the results. URL KEY PHOTO
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { client } from "./penstock/client.gen.js";
import {
  deleteTasks,
  getBatch,
  getBatchResults,
  listTasks,
  quoteTask,
  submitBatch,
  type LineView,
  type Problem,
  type SubmittedView,
  type TaskView,
  submitTask,
} from "./penstock/index.js";

const [url, key, photo] = process.argv.slice(2) as [string, string, string];
client.setConfig({ baseUrl: url, auth: key });

/** The answer, or the refusal as an error. */
async function answered<T>(asked: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const { data, error } = await asked;
  if (data === undefined) throw new Error((error as Problem).detail);
  return data;
}

const model = "image-scoring-v1";
const album = "of hey-api";
const input = { image_url: `data:image/jpeg;base64,${readFileSync(photo).toString("base64")}` };
const quote = await answered(quoteTask({ body: { model, input } }));
const submitted: SubmittedView | TaskView = await answered(submitTask({ body: { model, input } }));

const lines = ["1", "2"].map((n) => ({ custom_id: `photo ${n}`, model, input, metadata: { album } }));
let batch = await answered(submitBatch({ body: { lines } }));
while (batch.status !== "COMPLETED") {
  await setTimeout(100);
  batch = await answered(getBatch({ path: { batch_id: batch.batch_id } }));
}
const manifest = await answered(
  getBatchResults({ path: { batch_id: batch.batch_id }, headers: { Accept: "application/x-ndjson" } }),
);
const rows = (await manifest.text()).trimEnd().split("\n");
const ended = rows.map((row) => JSON.parse(row) as LineView);

const metadata = { "metadata.album": album };
const there = await answered(listTasks({ query: { metadata } }));
const hit = await answered(deleteTasks({ query: { status: ["SUCCESS", "FAILED"], metadata, dry_run: true } }));
console.log(
  JSON.stringify({
    quoted: [quote.model, quote.input?.width],
    submitted: submitted.task_id.slice(0, 4),
    type: manifest.type,
    lines: ended.map((row) => [row.custom_id, row.status, row.result?.data?.["score"]]).sort(),
    listed: there.data.length,
    would_delete: [hit.matched, hit.deleted],
  }),
);
