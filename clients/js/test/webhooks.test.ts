import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { verifyWebhook, WebhookError } from "penstock-client";
import { client, slow } from "./server.js";

const SECRET = process.env["WEBHOOK_SECRET"]!;

test("a message of the server is verified, and a forged one is not", async () => {
  const { body, headers, task_id } = await told();
  const event = await verifyWebhook(body, headers, ["whsec_bm90IHRoaXMgb25lLCBidXQgYW5vdGhlciBvbmU=", SECRET]);
  const id = headers["webhook-id"];

  assert.deepEqual([event.type, event.data.task_id, event.data.status], ["task.succeeded", task_id, "SUCCESS"]);
  const forged: [string, typeof headers][] = [
    [body.replace("SUCCESS", "FAILED"), headers],
    [body, { ...headers, "webhook-id": `${String(id)}0` }],
    [body, { ...headers, "webhook-timestamp": "1795370000" }],
    [body, { ...headers, "webhook-timestamp": "now" }],
    [body, { ...headers, "webhook-signature": "v1,%%%" }],
    [body, { ...headers, "webhook-signature": undefined }],
  ];
  for (const [text, head] of forged) await assert.rejects(verifyWebhook(text, head, SECRET), WebhookError);
  await assert.rejects(
    verifyWebhook(body, new Headers(headers as Record<string, string>), "whsec_b3RoZXI="),
    WebhookError,
  );
});

/** What a receiver was told of the end of a task. */
async function told(): Promise<{ body: string; headers: IncomingHttpHeaders; task_id: string }> {
  const receiver = createServer().listen(0, "127.0.0.1");
  await once(receiver, "listening");
  const { port } = receiver.address() as AddressInfo;
  const { task_id } = await client().submit({ ...slow(1), webhook: { url: `http://127.0.0.1:${port}/told` } });
  const [request, response] = (await once(receiver, "request")) as [IncomingMessage, ServerResponse];
  const body = await text(request);
  response.writeHead(204).end();
  receiver.close();
  return { body, headers: request.headers, task_id };
}
