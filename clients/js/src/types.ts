import type { components, operations } from "./schema.js";

type Schemas = components["schemas"];

export type Task = Schemas["TaskView"];
export type Progress = Schemas["ProgressView"];
export type Result = Schemas["ResultView"];
export type Status = Schemas["State"];
export type Priority = Schemas["Priority"];
export type Quote = Schemas["QuoteView"];
export type Explanation = Schemas["ExplainView"];
export type Batch = Schemas["BatchView"];
export type Line = Schemas["LineView"];
export type Model = Schemas["ModelView"];
export type ModelList = Schemas["ModelList"];
export type OpenedUpload = Schemas["OpenedView"];

/** Bytes that have been sent: an input of any number of tasks. */
export interface Upload {
  upload_id: string;
  size: number;
}

/** The answer to a submit. `replayed`: an earlier submit with this `client_request_id` had made the task. */
export type Submitted = Schemas["SubmittedView"] & { replayed: boolean };

/** The bytes of a file: one chosen in a page, of `openAsBlob` in Node, or in memory. */
export type Contents = Blob | ArrayBuffer | Uint8Array;

/**
 * The input of a task. Of a model with one image: its bytes, what `upload` gave, or its URL (`https:`, `s3:`, `data:`).
 * Of others: the members by name, of which bytes and uploads are files, and everything else is sent as it is.
 */
export type Input = Contents | Pick<Upload, "upload_id"> | string | { [member: string]: unknown };

type Sent = Schemas["ImageScoringV1Request"];

/** What a submit says. All but `model` and `input` may be left out; their names are those of the API. */
export interface TaskRequest
  extends Omit<Sent, "model" | "input" | "params" | "priority" | "reuse" | "client_request_id"> {
  /** `name`, or `name@version`. */
  model: string;
  input: Input;
  params?: Record<string, unknown>;
  priority?: Priority | undefined;
  /** `false` runs the task even if an equal one has a result. */
  reuse?: boolean | undefined;
  /** A repeat with the same id and body is answered with the first task. A new one, unless you give one. */
  client_request_id?: string | undefined;
}

type SentBatch = Schemas["BatchRequest"];
type SentLine = Schemas["BatchLine"];

/** One line of a batch; what it does not say is as the `defaults` have it. Files are sent inside it, 1 MiB at most. */
export interface BatchLine extends Omit<SentLine, "input"> {
  custom_id: string;
  input: Input;
}

/** What a submit of a batch says: at most 50,000 lines, and what holds for all of them. */
export interface BatchRequest extends Omit<SentBatch, "lines" | "upload_id" | "client_request_id"> {
  lines: Iterable<BatchLine>;
  client_request_id?: string | undefined;
}

type Acts = "listTasks" | "cancelTasks" | "retryTasks" | "deleteTasks";
type Filters<Id extends Acts> = NonNullable<operations[Id]["parameters"]["query"]>;
type Moments = "created_after" | "created_before";
type Steps = "cursor" | "limit" | "tenant" | "dry_run" | "all";

/**
 * What a task has to have: one of these `status`, this model and so on; and entries of `metadata` among others. Acts on
 * all that match need the `status`.
 */
export type Filter<Id extends Acts = "listTasks"> = Omit<Filters<Id>, Moments | Steps> & {
  [name in Moments]?: Date | string;
};

/** How many tasks matched, how many were changed, and the ids of the first that matched. */
export interface Hit {
  matched: number;
  changed: number;
  task_ids: string[];
}

/** A change of a task. With the `id` of the last one that came, a later stream leaves out what you have seen. */
export type TaskEvent =
  | { id: string; event: "status" | "completed"; data: Task }
  | { id: string; event: "progress"; data: Progress };

/** An operation of the API, by its name in the OpenAPI document. */
export type Operation = keyof operations;

type Json<Content> = Content extends { "application/json": infer T } ? T : never;
type Accepted<Responses> = Responses extends { [status: number]: infer Answer } ? Answer : never;
type Contained<Answer> = Answer extends { content: infer Content } ? Json<Content> : undefined;
type Body<Id extends Operation> = operations[Id] extends { requestBody: { content: infer Content } }
  ? Json<Content>
  : undefined;
type Parameters<Id extends Operation> = operations[Id]["parameters"];

/** What an operation answers, if that is JSON; undefined if it answers nothing. */
export type Answer<Id extends Operation> = Contained<Accepted<operations[Id]["responses"]>>;

/** The parameters and the body of an operation. */
export type Arguments<Id extends Operation> = (Parameters<Id>["path"] extends undefined
  ? { path?: undefined }
  : { path: Parameters<Id>["path"] }) &
  (Body<Id> extends undefined ? { body?: undefined } : { body: Body<Id> }) & { query?: Loose<Parameters<Id>["query"]> };

/** What follows the name of an operation; its arguments may be left out where it needs none. */
export type Rest<Id extends Operation, Options> =
  object extends Arguments<Id> ? [said?: Arguments<Id>, options?: Options] : [said: Arguments<Id>, options?: Options];

type Loose<T> = { [name in keyof T]: T[name] | undefined };

/** What every method takes: aborting the signal ends the call, and nothing at the server. */
export interface Options {
  signal?: AbortSignal | undefined;
}
