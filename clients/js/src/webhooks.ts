import type { Batch, Progress, Task } from "./types.js";

/** Seconds that the clocks of sender and receiver may be apart, as Standard Webhooks has it. */
const TOLERANCE = 300;

/** What a webhook is told; `data` is left out where it is large. */
export interface WebhookEvent {
  /** Such as `task.succeeded` or `batch.completed`. */
  type: string;
  timestamp: string;
  data: Partial<Task & Batch & { progress: Progress | null }> & { sequence?: number };
}

/** A message that does not come from Penstock, or not now. */
export class WebhookError extends Error {
  override readonly name = "WebhookError";
}

/**
 * Returns the event of a signed message. `body` is the text of the request as it came; `secrets` are those in force,
 * such as `whsec_...`. The same event may come twice; then its header `webhook-id` is the same. Throws WebhookError.
 */
export async function verifyWebhook(
  body: string,
  headers: Headers | { [name: string]: string | string[] | undefined },
  secrets: string | readonly string[],
): Promise<WebhookEvent> {
  const id = said(headers, "webhook-id");
  const timestamp = said(headers, "webhook-timestamp");
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE))
    throw new WebhookError("the message is not of now");
  const message = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  const signatures = said(headers, "webhook-signature")
    .split(" ")
    .filter((one) => one.startsWith("v1,"));
  for (const secret of [secrets].flat()) {
    const key = await keyOf(secret);
    for (const signature of signatures) {
      if (await crypto.subtle.verify("HMAC", key, bytesOf(signature.slice(3)), message))
        return JSON.parse(body) as WebhookEvent;
    }
  }
  throw new WebhookError("no signature is right for a secret");
}

function said(headers: Headers | { [name: string]: string | string[] | undefined }, name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : headers[name];
  if (!value) throw new WebhookError(`the header ${name} is missing`);
  return String(value);
}

function keyOf(secret: string): Promise<CryptoKey> {
  const usage = { name: "HMAC", hash: "SHA-256" };
  return crypto.subtle.importKey("raw", bytesOf(secret.replace(/^whsec_/, "")), usage, false, ["verify"]);
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
