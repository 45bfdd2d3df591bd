// With types made by openapi-typescript: submit a photo, wait for it, save the result. URL KEY PHOTO OUT
import { readFileSync, writeFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];
type Task = components["schemas"]["TaskView"];

const [url, key, photo, out] = process.argv.slice(2) as [string, string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function refused(problem: Problem): Error {
  return new Error(`${problem.code}: ${problem.detail}`);
}

async function ended(task_id: string): Promise<Task> {
  for (;;) {
    const { data, error } = await client.GET("/v1/tasks/{task_id}", {
      params: { path: { task_id }, query: { wait: 30 } },
    });
    if (error) throw refused(error);
    if (data.status !== "PENDING" && data.status !== "RUNNING") return data;
  }
}

const image_url = `data:image/jpeg;base64,${readFileSync(photo).toString("base64")}`;
const submitted = await client.POST("/v1/tasks", {
  body: { model: "superres-x4", input: { image_url }, params: { variant: "general" }, output: { format: "webp" } },
});
if (submitted.error) throw refused(submitted.error);

const task = await ended(submitted.data.task_id);
if (task.error) throw new Error(task.error.message);

const result = await client.GET("/v1/tasks/{task_id}/result", {
  params: { path: { task_id: task.task_id } },
  parseAs: "arrayBuffer",
});
if (result.error) throw refused(result.error);
writeFileSync(out, Buffer.from(result.data as ArrayBuffer));
console.log(task.status, task.result?.content_type, task.result?.width, task.result?.height);
