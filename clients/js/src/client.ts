import type { Connection } from "./connection.js";
import { eventsOf, type EventOptions } from "./events.js";
import { blobOf, inputOf, nameOf } from "./inputs.js";
import { failureOf, isFinal, PenstockApiError } from "./problems.js";
import { limited, sleep, type Tries } from "./retries.js";
import { ROUTES } from "./schema.js";
import { filled, json, text, Transport, type Read, type Said, type Settings } from "./transport.js";
import type * as types from "./types.js";
import { hex, sendUpload, sha256Of, type SendOptions } from "./uploads.js";

/** Seconds that one request waits for the end of a task; many proxies cut a connection that is silent for a minute. */
const WAIT = 30;

/** Seconds between the reads of a batch that one waits for. */
const BATCH_EVERY = 1;

const PAGE = 100;

const JSON_HEADERS = { "content-type": "application/json" };

/** How long a call waits for an end; after that it throws a DOMException with the name TimeoutError. */
export interface WaitOptions extends types.Options {
  timeoutSeconds?: number | undefined;
}

export interface RunOptions extends WaitOptions {
  /** Is told of each change on the way. */
  onEvent?: ((event: types.TaskEvent) => void) | undefined;
}

export interface UploadOptions extends Pick<SendOptions, "signal" | "onProgress"> {
  /** Of the file, for the model; that of a File, unless you say otherwise. */
  name?: string | undefined;
  contentType?: string | undefined;
  /** In hex. It is made of the bytes, unless you know it or they are more than 256 MiB. */
  sha256?: string | undefined;
}

export interface MatchingOptions extends types.Options {
  /** Changes nothing; the answer counts what would be. */
  dryRun?: boolean | undefined;
  /** Is needed where no more than the status is said. */
  every?: boolean | undefined;
}

/** How an operation is called: as `repeat` says, else again and again unless it is a POST. */
export type CallOptions = types.Options & Pick<Said, "repeat" | "waitSeconds">;

/**
 * One server, spoken to with one key, or with the token of one task. Every method throws PenstockApiError if the server
 * refuses, or is not reached within the patience of the client. A task goes on at the server when a call that waits for
 * it is aborted.
 */
export class Penstock {
  readonly url: string;
  readonly #transport: Transport;

  /** In Node, what is left out is that of PENSTOCK_URL and PENSTOCK_API_KEY. Throws TypeError for no URL, or no key. */
  constructor(settings: Settings = {}) {
    this.#transport = new Transport(settings);
    this.url = this.#transport.url;
  }

  /** Calls any operation of the API that answers JSON, by its name in the OpenAPI document, such as `drainWorker`. */
  call<Id extends types.Operation>(
    operation: Id,
    ...[said, options]: types.Rest<Id, CallOptions>
  ): Promise<types.Answer<Id>> {
    return this.#send(operation, said ?? ({} as types.Arguments<Id>), { ...options }, json<types.Answer<Id>>);
  }

  /** Queues a task. Files that are too big for the request are uploaded first. Repeats do not become a second task. */
  async submit(request: types.TaskRequest, { signal }: types.Options = {}): Promise<types.Submitted> {
    const client_request_id = request.client_request_id ?? newRequestId();
    const body = { ...(await this.#written(request, signal)), client_request_id };
    return this.#send("submitTask", { body }, { signal, repeat: true }, async (answer, connection) => ({
      ...(await json<types.Submitted>(answer, connection)),
      replayed: answer.headers.has("idempotent-replayed"),
    }));
  }

  /** Submits a task and waits for its end. Throws PenstockApiError also if it ends without a result. */
  run(request: types.TaskRequest, { timeoutSeconds, signal, onEvent }: RunOptions = {}): Promise<types.Task> {
    return limited(timeoutSeconds, signal, async (signal) => {
      const { task_id } = await this.submit(request, { signal });
      if (onEvent) for await (const event of this.events(task_id, { signal })) onEvent(event);
      const task = await this.wait(task_id, { signal });
      const failure = failureOf(task);
      if (failure) throw failure;
      return task;
    });
  }

  /** Says what a submit of this request would lead to, and queues nothing. Large files are uploaded. */
  async quote(request: types.TaskRequest, { signal }: types.Options = {}): Promise<types.Quote> {
    const body = await this.#written(request, signal);
    return this.#send("quoteTask", { body }, { signal, repeat: true }, json<types.Quote>);
  }

  /** Sends a file that any number of tasks may name as an input. */
  async upload(contents: types.Contents, options: UploadOptions = {}): Promise<types.Upload> {
    const { signal, onProgress, name = nameOf(contents) } = options;
    const file = blobOf(contents);
    const { contentType = file.type, sha256 = await sha256Of(file) } = options;
    const body = { size: file.size, content_type: contentType, sha256: sha256 ?? null, name: name ?? null };
    const opened = await this.call("openUpload", { body }, { signal, repeat: true });
    const { patienceSeconds, onPause } = this.#transport.settings;
    await sendUpload(opened, file, { signal, onProgress, patienceSeconds, onPause });
    return { upload_id: opened.upload_id, size: file.size };
  }

  /** Returns the task; with `waitSeconds` (300 at most) as soon as it has ended, or after that time. */
  get(taskId: string, { waitSeconds, signal }: types.Options & Pick<Said, "waitSeconds"> = {}): Promise<types.Task> {
    return this.call("getTask", { path: { task_id: taskId }, query: { wait: waitSeconds } }, { signal, waitSeconds });
  }

  /** Waits until the task has ended, with or without a result. */
  wait(taskId: string, { timeoutSeconds, signal }: WaitOptions = {}): Promise<types.Task> {
    return limited(timeoutSeconds, signal, async (signal) => {
      for (;;) {
        const task = await this.get(taskId, { waitSeconds: WAIT, signal });
        if (isFinal(task)) return task;
      }
    });
  }

  /** Yields the task now (`status`) and each change, until it has ended (`completed`), over broken connections too. */
  events(taskId: string, options: EventOptions = {}): Each<types.TaskEvent> {
    return eventsOf(this.#transport, this.#path("watchTask", { path: { task_id: taskId } }), options);
  }

  /** Returns the result, or its file of this name, when all of it is here and its digest is right. */
  async result(taskId: string, { name, signal }: types.Options & { name?: string | undefined } = {}): Promise<Blob> {
    const { result } = await this.get(taskId, { signal });
    const sha256 = name === undefined ? result?.sha256 : result?.files.find((file) => file.name === name)?.sha256;
    const path = { task_id: taskId, result_name: name };
    const read: Read<Blob> = (answer, connection, tries) => received(answer, connection, tries, sha256);
    return this.#send(name === undefined ? "getTaskResult" : "getTaskResultFile", { path }, { signal }, read);
  }

  /** Returns what the code of the model has logged about the task. */
  log(taskId: string, options: types.Options = {}): Promise<string> {
    return this.#send("getTaskLog", { path: { task_id: taskId } }, options, text);
  }

  /** Says why the task is not done yet. */
  explain(taskId: string, options?: types.Options): Promise<types.Explanation> {
    return this.call("explainTask", { path: { task_id: taskId } }, options);
  }

  /** Cancels a task that waits or runs. It may be called again. */
  cancel(taskId: string, options?: types.Options): Promise<types.Task> {
    return this.call("cancelTask", { path: { task_id: taskId } }, { ...options, repeat: true });
  }

  /** Runs a task again that failed, was canceled or expired. */
  retry(taskId: string, options?: types.Options): Promise<types.Task> {
    return this.call("retryTask", { path: { task_id: taskId } }, { ...options, repeat: true });
  }

  /** Deletes a task that has ended, and its files. */
  async delete(taskId: string, options?: types.Options): Promise<void> {
    await this.call("deleteTask", { path: { task_id: taskId } }, options);
  }

  /** Yields all tasks that match, newest first. */
  async *list(filter: types.Filter = {}, { signal }: types.Options = {}): Each<types.Task> {
    for await (const page of this.#pages<types.Answer<"listTasks">>("listTasks", { ...filter, limit: PAGE }, signal)) {
      yield* page.data;
    }
  }

  /** Cancels all tasks that match and wait or run. */
  cancelMatching(filter: types.Filter<"cancelTasks">, options?: MatchingOptions): Promise<types.Hit> {
    return this.#actOnMatching("cancelTasks", filter, options);
  }

  /** Runs all tasks again that match and failed, were canceled or expired. */
  retryMatching(filter: types.Filter<"retryTasks">, options?: MatchingOptions): Promise<types.Hit> {
    return this.#actOnMatching("retryTasks", filter, options);
  }

  /** Deletes all tasks that match and have ended. */
  deleteMatching(filter: types.Filter<"deleteTasks">, options?: MatchingOptions): Promise<types.Hit> {
    return this.#actOnMatching("deleteTasks", filter, options);
  }

  /** Queues a task for each line, all or none. Repeats do not become a second batch. */
  async submitBatch({ lines, ...request }: types.BatchRequest, { signal }: types.Options = {}): Promise<types.Batch> {
    const written: string[] = [];
    for (const line of lines) written.push(JSON.stringify({ ...line, input: await inputOf(line.input) }));
    const options = JSON.stringify({ ...request, client_request_id: request.client_request_id ?? newRequestId() });
    const said: Said = { headers: { "content-type": "application/x-ndjson" }, body: written.join("\n"), signal };
    return this.#transport.send("POST", this.#path("submitBatch", { query: { options } }), said, json<types.Batch>);
  }

  /** Returns the batch. */
  getBatch(batchId: string, options?: types.Options): Promise<types.Batch> {
    return this.call("getBatch", { path: { batch_id: batchId } }, options);
  }

  /** Waits until all lines of the batch have ended. */
  waitBatch(batchId: string, { timeoutSeconds, signal }: WaitOptions = {}): Promise<types.Batch> {
    return limited(timeoutSeconds, signal, async (signal) => {
      for (;;) {
        const batch = await this.getBatch(batchId, { signal });
        if (isFinal(batch)) return batch;
        await sleep(BATCH_EVERY, signal);
      }
    });
  }

  /** Yields the lines that have ended so far, in that order, without the first `start`. */
  batchLines(batchId: string, { start = 0, signal }: types.Options & { start?: number } = {}): Each<types.Line> {
    const transport = this.#transport;
    const path = (): string => this.#path("getBatchResults", { path: { batch_id: batchId }, query: { start } });
    async function* open(connection: Connection): AsyncGenerator<types.Line> {
      const answer = await transport.open("GET", { headers: { accept: "application/x-ndjson" } }, connection);
      for await (const line of connection.lines(answer)) {
        if (!line) continue;
        start += 1;
        yield JSON.parse(line) as types.Line;
      }
    }
    return transport.stream(path, WAIT, open, signal);
  }

  /** Ends all lines that have not ended. It may be called again. */
  cancelBatch(batchId: string, options?: types.Options): Promise<types.Batch> {
    return this.call("cancelBatch", { path: { batch_id: batchId } }, { ...options, repeat: true });
  }

  /** Deletes a batch that has ended. */
  async deleteBatch(batchId: string, options?: types.Options): Promise<void> {
    await this.call("deleteBatch", { path: { batch_id: batchId } }, options);
  }

  /** Yields all batches, newest first. */
  async *listBatches({ signal }: types.Options = {}): Each<types.Batch> {
    for await (const page of this.#pages<types.Answer<"listBatches">>("listBatches", { limit: PAGE }, signal)) {
      yield* page.data;
    }
  }

  /** Returns the models of the server, each with its versions, and the versions that it cannot serve. */
  models(options?: types.Options): Promise<types.ModelList> {
    return this.call("listModels", {}, options);
  }

  /** Returns the default version of a model, or that of `name@version`. */
  model(name: string, options?: types.Options): Promise<types.Model> {
    return this.call("getModel", { path: { name } }, options);
  }

  async #written(request: types.TaskRequest, signal: AbortSignal | undefined): Promise<object> {
    return { ...request, input: await inputOf(request.input, (contents) => this.upload(contents, { signal })) };
  }

  async #actOnMatching(operation: Acts, filter: object, options: MatchingOptions = {}): Promise<types.Hit> {
    const hit: types.Hit = { matched: 0, changed: 0, task_ids: [] };
    const query = { ...filter, dry_run: options.dryRun, all: options.every };
    for await (const page of this.#pages<Acted>(operation, query, options.signal)) {
      hit.matched += page.matched;
      hit.changed += page.canceled ?? page.retried ?? page.deleted ?? 0;
      if (!hit.task_ids.length) hit.task_ids = page.task_ids;
    }
    return hit;
  }

  async *#pages<T extends Page>(operation: types.Operation, filter: object, signal?: AbortSignal): Each<T> {
    let cursor: string | null | undefined;
    do {
      const page: T = await this.#send(operation, { query: { ...filter, cursor } }, { signal, repeat: true }, json<T>);
      yield page;
      cursor = page.next_cursor;
    } while (cursor);
  }

  async #send<T>(operation: types.Operation, said: Parts, options: CallOptions, read: Read<T>): Promise<T> {
    const [method] = ROUTES[operation];
    const body = said.body === undefined ? undefined : { body: JSON.stringify(said.body), headers: JSON_HEADERS };
    const how = { repeat: method !== "POST", ...options, ...body };
    return this.#transport.send(method, this.#path(operation, said), how, read);
  }

  #path(operation: types.Operation, { path, query }: Parts): string {
    return this.#transport.pathOf(filled(ROUTES[operation][1], path), query);
  }
}

/** An iterator of what comes page by page, or over more than one connection. */
type Each<T> = AsyncGenerator<T, void, undefined>;

/** What an operation is told, as `types.Arguments` has it. */
interface Parts {
  path?: object | undefined;
  query?: object | undefined;
  body?: unknown;
}

type Page = { next_cursor: string | null };
type Acts = "cancelTasks" | "retryTasks" | "deleteTasks";
type Acted = Page &
  Pick<types.Hit, "matched" | "task_ids"> & { [count in "canceled" | "retried" | "deleted"]?: number };

/** Returns the body. Throws PenstockApiError if its digest is not this one, where the platform can make one. */
async function received(answer: Response, connection: Connection, tries: Tries, sha256?: string | null): Promise<Blob> {
  const pieces: BlobPart[] = [];
  for await (const piece of connection.pieces(answer)) {
    pieces.push(piece as BlobPart);
    tries.moved();
  }
  const blob = new Blob(pieces, { type: answer.headers.get("content-type") ?? "" });
  const digest = sha256 ? await sha256Of(blob) : undefined;
  if (digest === undefined || digest === sha256) return blob;
  throw new PenstockApiError("other bytes came than the server has stored", {
    code: "damaged_download",
    retryable: true,
  });
}

/** Returns a new `client_request_id`, which makes a submit safe to repeat; randomUUID is only in secure contexts. */
function newRequestId(): string {
  return `js-${hex(crypto.getRandomValues(new Uint8Array(16)))}`;
}
