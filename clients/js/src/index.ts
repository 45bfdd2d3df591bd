/** The client of Penstock for browsers and Node. */
export {
  Penstock,
  type CallOptions,
  type MatchingOptions,
  type RunOptions,
  type UploadOptions,
  type WaitOptions,
} from "./client.js";
export type { EventOptions } from "./events.js";
export { failureOf, isFinal, PenstockApiError } from "./problems.js";
export type { OnPause } from "./retries.js";
export type { components, operations } from "./schema.js";
export type { Settings } from "./transport.js";
export type * from "./types.js";
export { sendUpload, type SendOptions } from "./uploads.js";
export { verifyWebhook, WebhookError, type WebhookEvent } from "./webhooks.js";
