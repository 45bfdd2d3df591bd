import type { components } from "./schema.js";
import type { Task } from "./types.js";

/** HTTP statuses that are worth a retry if there is no problem document, since a proxy answered. */
const PASSING = [429, 502, 503, 504];

/** Error codes of S3 that are worth a retry; some come with 400 or 500. */
const BUCKET_PASSING = ["InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"];

const LIVE = ["PENDING", "RUNNING", "CANCELING"];

/** What a {@link PenstockApiError} says beside its text. */
export interface Refused {
  /**
   * Stable: one of Penstock's error codes, or `unreachable`, `damaged_download`, `canceled`, `expired`, or
   * `http_<status>` where something else than Penstock answered.
   */
  readonly code: string;
  /** Of HTTP; 0 where there was no answer. */
  readonly status: number;
  /** The member of the request at fault. */
  readonly param: string | null;
  /** The quota that is used up. */
  readonly quota: string | null;
  /** What the log of the server has the request under. */
  readonly requestId: string | null;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** In how many seconds it may, if the server said so. */
  readonly retryAfter: number | null;
  /** What is wrong with each of the first lines of a batch that was refused: its number, its `custom_id`, and why. */
  readonly findings: readonly components["schemas"]["Finding"][];
}

const UNSAID = { status: 0, param: null, quota: null, requestId: null, retryable: false, retryAfter: null, findings: [] };

export interface PenstockApiError extends Refused {}

/** Penstock said no, could not be reached, or a task ended without a result. */
export class PenstockApiError extends Error {
  override readonly name = "PenstockApiError";

  constructor(
    readonly detail: string,
    refused: Partial<Refused> & Pick<Refused, "code">,
    cause?: unknown,
  ) {
    super(`${refused.code}: ${detail}${refused.param ? ` (${refused.param})` : ""}`, { cause });
    Object.assign(this, UNSAID, refused);
  }
}

/** Returns the error of a 4xx or 5xx answer with this text. */
export function refusal(url: string, { status, headers }: Response, text: string): PenstockApiError {
  const retryAfter = /^\d+$/.test(headers.get("retry-after") ?? "") ? Number(headers.get("retry-after")) : null;
  const problem = problemOf(text);
  if (problem) {
    const { detail, code, retryable, param = null, quota = null, request_id: requestId = null } = problem;
    const findings = problem.errors ?? [];
    return new PenstockApiError(detail, { code, status, retryable, param, quota, requestId, retryAfter, findings });
  }
  const bucketCode = /<Code>([^<]{1,300})<\/Code>/.exec(text)?.[1] ?? "";
  const retryable = PASSING.includes(status) || BUCKET_PASSING.includes(bucketCode);
  const detail = `${hostOf(url)} answered ${status}${bucketCode ? ` ${bucketCode}` : ", and not as Penstock does"}`;
  return new PenstockApiError(detail, { code: `http_${status}`, status, retryable, retryAfter });
}

/** Returns the error of a connection that failed, broke, or brought nothing in time. */
export function unreachable(
  url: string,
  reason: string,
  said: { cause?: unknown; retryAfter?: number } = {},
): PenstockApiError {
  const refused = { code: "unreachable", retryable: true, retryAfter: said.retryAfter ?? null };
  return new PenstockApiError(`${hostOf(url)}: ${reason}`, refused, said.cause);
}

/** Returns the error of a task that ended without a result, else null. */
export function failureOf({ status, error }: Task): PenstockApiError | null {
  if (status === "SUCCESS" || !isFinal({ status })) return null;
  if (!error) return new PenstockApiError(`the task has ended as ${status}`, { code: status.toLowerCase() });
  return new PenstockApiError(error.message, { code: error.code, retryable: error.retryable });
}

/** Whether a task or a batch has ended. A status that this version does not know is an end. */
export function isFinal({ status }: { status: string }): boolean {
  return !LIVE.includes(status);
}

/** Returns the host of a URL, without what may be secret in the rest. */
export function hostOf(url: string): string {
  return new URL(url).host;
}

type Problem = components["schemas"]["Problem"];

function problemOf(text: string): Problem | null {
  try {
    const said = JSON.parse(text) as Partial<Problem> | null;
    return typeof said?.code === "string" && typeof said.detail === "string" ? (said as Problem) : null;
  } catch {
    return null;
  }
}
