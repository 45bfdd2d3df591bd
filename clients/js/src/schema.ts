// Made by generate.mjs from docs/openapi.json.

/** Method and path of each operation of the API. */
export const ROUTES = {
  listTasks: ["GET", "/v1/tasks"],
  submitTask: ["POST", "/v1/tasks"],
  quoteTask: ["POST", "/v1/tasks/quote"],
  getTask: ["GET", "/v1/tasks/{task_id}"],
  deleteTask: ["DELETE", "/v1/tasks/{task_id}"],
  cancelTask: ["POST", "/v1/tasks/{task_id}/cancel"],
  watchTask: ["GET", "/v1/tasks/{task_id}/events"],
  explainTask: ["GET", "/v1/tasks/{task_id}/explain"],
  cancelTasks: ["POST", "/v1/tasks/cancel"],
  deleteTasks: ["POST", "/v1/tasks/delete"],
  retryTask: ["POST", "/v1/tasks/{task_id}/retry"],
  retryTasks: ["POST", "/v1/tasks/retry"],
  redeliverWebhook: ["POST", "/v1/tasks/{task_id}/webhook/redeliver"],
  listBatches: ["GET", "/v1/batches"],
  submitBatch: ["POST", "/v1/batches"],
  getBatch: ["GET", "/v1/batches/{batch_id}"],
  deleteBatch: ["DELETE", "/v1/batches/{batch_id}"],
  cancelBatch: ["POST", "/v1/batches/{batch_id}/cancel"],
  getBatchResults: ["GET", "/v1/batches/{batch_id}/results"],
  redeliverBatchWebhook: ["POST", "/v1/batches/{batch_id}/webhook/redeliver"],
  getTaskResult: ["GET", "/v1/tasks/{task_id}/result"],
  getTaskLog: ["GET", "/v1/tasks/{task_id}/log"],
  getTaskResultFile: ["GET", "/v1/tasks/{task_id}/result/{result_name}"],
  openUpload: ["POST", "/v1/uploads"],
  getUpload: ["GET", "/v1/uploads/{upload_id}"],
  sendUpload: ["PUT", "/v1/uploads/{upload_id}"],
  deleteUpload: ["DELETE", "/v1/uploads/{upload_id}"],
  listModels: ["GET", "/v1/models"],
  getModel: ["GET", "/v1/models/{name}"],
  setDefaultVersion: ["PUT", "/v1/models/{name}/default"],
  loadModel: ["POST", "/v1/models/{name}/load"],
  unloadModel: ["POST", "/v1/models/{name}/unload"],
  listWorkers: ["GET", "/v1/workers"],
  drainWorker: ["POST", "/v1/workers/{worker_id}/drain"],
  resumeWorker: ["POST", "/v1/workers/{worker_id}/resume"],
  listQueues: ["GET", "/v1/queues"],
  pauseQueue: ["POST", "/v1/queues/{model}/pause"],
  resumeQueue: ["POST", "/v1/queues/{model}/resume"],
  purgeQueue: ["POST", "/v1/queues/{model}/purge"],
  getStats: ["GET", "/v1/stats"],
  readSettings: ["GET", "/v1/settings"],
  listKeys: ["GET", "/v1/keys"],
  createKey: ["POST", "/v1/keys"],
  getKey: ["GET", "/v1/keys/{key_id}"],
  revokeKey: ["DELETE", "/v1/keys/{key_id}"],
  rotateKey: ["POST", "/v1/keys/{key_id}/rotate"],
  revokeTokens: ["POST", "/v1/tokens/revoke"],
  listTenants: ["GET", "/v1/tenants"],
  getQuotas: ["GET", "/v1/tenants/{tenant}/quotas"],
  setQuotas: ["PUT", "/v1/tenants/{tenant}/quotas"],
  resetQuotas: ["DELETE", "/v1/tenants/{tenant}/quotas"],
  readAudit: ["GET", "/v1/audit"],
  readUsage: ["GET", "/v1/usage"],
} as const;

export interface components {
    schemas: {
        /**
         * AheadView
         * @description The tasks of the same model that wait and come before; `device_s` is null while none has been measured.
         */
        AheadView: {
            tasks: number;
            device_s: number | null;
        };
        /**
         * AttemptView
         * @description One attempt of a worker to run the task.
         */
        AttemptView: {
            n: number;
            worker: string;
            device: string;
            /** Format: date-time */
            started_at: string;
            /** Format: date-time */
            ended_at: string;
            outcome: string;
            error: components["schemas"]["ErrorView"] | null;
        };
        /**
         * AuditPage
         * @description A page of the audit, newest first; `next_cursor` continues it.
         */
        AuditPage: {
            data: components["schemas"]["AuditView"][];
            has_more: boolean;
            next_cursor: string | null;
        };
        /**
         * AuditView
         * @description One act: the caller `by` of that tenant did `act` on `subject`, from that address. `details` has more about it,
         *     such as the number of tasks.
         */
        AuditView: {
            id: string;
            /** Format: date-time */
            at: string;
            by: string;
            tenant: string;
            act: string;
            subject: string;
            address: string;
            request_id: string;
            details: Record<string, unknown>;
        };
        /**
         * BacklogView
         * @description The expected device time, in seconds, of all work that is left, of all tenants, and the same by model. It is 0
         *     only where nothing waits that may start, and nothing runs.
         */
        BacklogView: {
            device_s: number;
            models: {
                [key: string]: number;
            };
        };
        /**
         * BatchDefaults
         * @description Members of every line that does not have them itself; a member is taken whole, not merged.
         */
        BatchDefaults: {
            model?: string | null;
            input?: components["schemas"]["InputRequest"] | null;
            params?: Record<string, unknown> | null;
            output?: components["schemas"]["OutputRequest"] | null;
            priority?: components["schemas"]["Priority"] | null;
            metadata?: {
                [key: string]: string | null;
            } | null;
            start_within_s?: number | null;
            finish_within_s?: number | null;
            timeout_s?: number | null;
            result_ttl_s?: number | null;
            retry?: components["schemas"]["RetryRequest"] | null;
            webhook?: components["schemas"]["WebhookRequest"] | null;
            /** @description false: run it even if an equal task has a result; so does Cache-Control: no-cache */
            reuse?: boolean | null;
        };
        /**
         * BatchLine
         * @description One line: a task, and its `custom_id`, which no other line of the batch has. What it does not say is as the
         *     defaults of the batch have it; `priority` is low unless one of them says otherwise.
         */
        BatchLine: {
            model?: string | null;
            input?: components["schemas"]["InputRequest"] | null;
            params?: Record<string, unknown> | null;
            output?: components["schemas"]["OutputRequest"] | null;
            priority?: components["schemas"]["Priority"] | null;
            metadata?: {
                [key: string]: string | null;
            } | null;
            start_within_s?: number | null;
            finish_within_s?: number | null;
            timeout_s?: number | null;
            result_ttl_s?: number | null;
            retry?: components["schemas"]["RetryRequest"] | null;
            webhook?: components["schemas"]["WebhookRequest"] | null;
            /** @description false: run it even if an equal task has a result; so does Cache-Control: no-cache */
            reuse?: boolean | null;
            /** @description the client's name for the line */
            custom_id: string;
        };
        /**
         * BatchLinksView
         * @description Links to what can be done with a batch, relative to the server.
         */
        BatchLinksView: {
            self: string;
            cancel: string;
            results: string;
            tasks: string;
        };
        /**
         * BatchList
         * @description A page of batches, newest first; `next_cursor` continues the list.
         */
        BatchList: {
            data: components["schemas"]["BatchView"][];
            has_more: boolean;
            next_cursor: string | null;
        };
        /**
         * BatchRequest
         * @description A batch whose lines are here, or are those of an uploaded JSONL file: one of the two.
         */
        BatchRequest: {
            defaults?: components["schemas"]["BatchDefaults"] | null;
            /** @default null */
            client_request_id?: string | null;
            metadata?: {
                [key: string]: string | null;
            } | null;
            /** @default null */
            webhook?: components["schemas"]["BatchWebhookRequest"] | null;
            /** @default null */
            result_ttl_s?: number | null;
            lines?: components["schemas"]["BatchLine"][] | null;
            /** @description of POST /v1/uploads */
            upload_id?: string | null;
        };
        /**
         * BatchState
         * @description The four states of a batch. The counts of the batch tell how its lines ended.
         * @enum {unknown}
         */
        BatchState: "CANCELED" | "CANCELING" | "COMPLETED" | "RUNNING";
        /**
         * BatchView
         * @description A batch with its progress.
         */
        BatchView: {
            batch_id: string;
            status: components["schemas"]["BatchState"];
            client_request_id: string | null;
            /** Format: date-time */
            created_at: string;
            finished_at: string | null;
            expires_at: string | null;
            counts: components["schemas"]["CountsView"];
            progress: components["schemas"]["ProgressView"];
            /** @description Seconds until it should have ended, at the pace so far; null while no line has ended */
            eta_s: number | null;
            defaults: Record<string, unknown>;
            metadata: {
                [key: string]: string;
            };
            webhook: components["schemas"]["WebhookView"] | null;
            links: components["schemas"]["BatchLinksView"];
        };
        /**
         * BatchWebhookRequest
         * @description Whom to tell that a batch has ended, by Standard Webhooks 1.0.
         */
        BatchWebhookRequest: {
            /** @description https URL that takes a signed POST */
            url: string;
            /**
             * @description default: both
             * @default [
             *       "completed",
             *       "canceled"
             *     ]
             */
            events?: ("canceled" | "completed")[] | null;
        };
        /**
         * BlockerView
         * @description Something that a task waits for: until when, or for which other task, if that is known.
         */
        BlockerView: {
            /** @enum {unknown} */
            code: "follows_equal_task" | "model_cold" | "model_failed" | "model_loading" | "no_worker" | "queue_paused" | "retry_delay" | "spool_full" | "storage_unavailable" | "tenant_at_quota" | "workers_busy";
            detail: string;
            /** @default null */
            until?: string | null;
            /** @default null */
            task_id?: string | null;
        };
        /**
         * CanceledView
         * @description How many of the matching tasks were canceled.
         */
        CanceledView: {
            matched: number;
            task_ids: string[];
            dry_run: boolean;
            has_more: boolean;
            next_cursor: string | null;
            canceled: number;
        };
        /**
         * CountsView
         * @description Numbers of lines: those `waiting` are not tasks yet, those `queued` and `running` are, the others have ended.
         */
        CountsView: {
            total: number;
            waiting: number;
            queued: number;
            running: number;
            succeeded: number;
            failed: number;
            canceled: number;
            expired: number;
        };
        /**
         * DefaultVersionRequest
         * @description The version that the bare name of a model is to mean from now on.
         */
        DefaultVersionRequest: {
            version: string;
        };
        /**
         * DeletedView
         * @description How many of the matching tasks were deleted.
         */
        DeletedView: {
            matched: number;
            task_ids: string[];
            dry_run: boolean;
            has_more: boolean;
            next_cursor: string | null;
            deleted: number;
        };
        /**
         * DeliveryView
         * @description One attempt to deliver an event.
         */
        DeliveryView: {
            /** Format: date-time */
            at: string;
            ms: number;
            outcome: string;
            code: number | null;
        };
        /**
         * ErrorView
         * @description Why an attempt or a task has failed; `code` is one of the codes of the API's errors.
         */
        ErrorView: {
            code: string;
            message: string;
            retryable: boolean;
        };
        /**
         * EventView
         * @description An event that is sent to the webhook; `deliveries` has the latest 20 attempts.
         */
        EventView: {
            type: string;
            sequence: number;
            /** @enum {unknown} */
            status: "delivered" | "failed" | "waiting";
            deliveries: components["schemas"]["DeliveryView"][];
            next_delivery_at: string | null;
        };
        /**
         * ExampleAnswerView
         * @description The answer to the example of a model: its data, and the names of its files.
         */
        ExampleAnswerView: {
            data: Record<string, unknown> | null;
            files: string[];
        };
        /**
         * ExampleView
         * @description A request that the model was tried with, and what it answered. The places of files are made up.
         */
        ExampleView: {
            request: Record<string, unknown>;
            answer: components["schemas"]["ExampleAnswerView"];
        };
        /**
         * ExplainView
         * @description Why a task is not done yet. `workers` are READY and serve its model.
         */
        ExplainView: {
            task_id: string;
            status: components["schemas"]["State"];
            /** @enum {unknown} */
            stage: "done" | "fetch" | "infer" | "load" | "postprocess" | "prepare" | "queued" | "retry" | "upload";
            queue_position: number | null;
            ahead: components["schemas"]["AheadView"];
            workers: components["schemas"]["WorkerView"][];
            blockers: components["schemas"]["BlockerView"][];
            /** @description Seconds until it should be done: the device time of the tasks that wait ahead of it (the mean of the model's last tasks) shared by the workers that are READY, and its own, by its size. Other models' tasks, download and upload are not in it. null while no task of the model has been measured or no worker serves it */
            eta_s: number | null;
        };
        /**
         * FaultyModelView
         * @description A version that a worker has found and cannot serve. It was never published, so that no task can name it.
         */
        FaultyModelView: {
            name: string;
            version: string | null;
            worker: string;
            reason: string;
        };
        /**
         * Finding
         * @description One of several things wrong with one request; in the lines of a batch, with the number of the line, from 1.
         */
        Finding: {
            param: string;
            detail: string;
            code?: string;
            line?: number;
            custom_id?: string;
        };
        /**
         * HeldView
         * @description What a tenant holds now: tasks that wait and run, bytes of its records in Redis, bytes of its inputs, uploads and
         *     results in the storage, unfinished lines of its batches, and the device time that its unfinished tasks are expected
         *     to take.
         */
        HeldView: {
            tasks_waiting: number;
            tasks_running: number;
            redis_bytes: number;
            storage_bytes: number;
            batch_lines: number;
            device_seconds_reserved: number;
        };
        /**
         * ImageScoringV1Request
         * @description A task to run. The same `client_request_id` with the same body names the same task.
         */
        ImageScoringV1Request: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            model: "image-scoring-v1";
            input: components["schemas"]["InputRequest"];
            params?: components["schemas"]["ScoringParams"] | null;
            output?: components["schemas"]["OutputRequest"] | null;
            /** @default normal */
            priority?: components["schemas"]["Priority"] | null;
            /** @default null */
            client_request_id?: string | null;
            metadata?: {
                [key: string]: string | null;
            } | null;
            /** @default null */
            start_within_s?: number | null;
            /** @default null */
            finish_within_s?: number | null;
            /** @default null */
            timeout_s?: number | null;
            /** @default null */
            result_ttl_s?: number | null;
            /** @default null */
            retry?: components["schemas"]["RetryRequest"] | null;
            /** @default null */
            webhook?: components["schemas"]["WebhookRequest"] | null;
            /**
             * @description false: run it even if an equal task has a result; so does Cache-Control: no-cache
             * @default true
             */
            reuse?: boolean | null;
            links?: components["schemas"]["LinksRequest"] | null;
        };
        /**
         * InputRequest
         * @description The place of the image: exactly one of the two is set.
         */
        InputRequest: {
            /** @description http(s) URL, data: URI of a PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP in any form, or s3://bucket/key where that is allowed */
            image_url?: string | null;
            /** @description of POST /v1/uploads */
            upload_id?: string | null;
        };
        /**
         * KeyList
         * @description Keys, the newest first.
         */
        KeyList: {
            data: components["schemas"]["KeyView"][];
        };
        /**
         * KeyRequest
         * @description A key to make. Keys of one tenant with one name are one caller: they share its limits, so that a key can take the
         *     place of another. Without a name it is its own id.
         */
        KeyRequest: {
            tenant: string;
            /**
             * @default [
             *       "read",
             *       "submit"
             *     ]
             */
            scopes?: ("admin" | "operate" | "read" | "submit")[] | null;
            /** @default null */
            name?: string | null;
            /**
             * @description 0: it works until it is revoked
             * @default 7776000
             */
            expires_in_s?: number | null;
        };
        /**
         * KeyView
         * @description A managed key, without its secret. `last_used_at` is exact to about a minute; `replaced_by` is the id of the key
         *     that a rotation has put in its place.
         */
        KeyView: {
            id: string;
            tenant: string;
            name: string;
            scopes: ("admin" | "operate" | "read" | "submit")[];
            /** @enum {unknown} */
            status: "active" | "expired" | "revoked";
            /** Format: date-time */
            created_at: string;
            created_by: string;
            expires_at: string | null;
            revoked_at: string | null;
            last_used_at: string | null;
            replaced_by: string | null;
        };
        /**
         * LimitsView
         * @description Limits of a task: a submit with a larger input is refused, and an attempt that takes longer ends. The formats are
         *     those of images.
         */
        LimitsView: {
            input_formats: string[];
            input_bytes: number;
            input_megapixels: number;
            timeout_s: number;
        };
        /**
         * LineResultView
         * @description The result of a line; all but `url` is null when its record was deleted after its retention.
         */
        LineResultView: {
            url: string;
            content_type: string | null;
            size: number | null;
            sha256: string | null;
            width: number | null;
            height: number | null;
            data: Record<string, unknown> | null;
            files: components["schemas"]["ResultFileView"][];
            notes: ("turned" | "profile_converted" | "profile_ignored" | "alpha_filled" | "first_frame" | "metadata_stripped" | "truncated" | "recomputed_in_fp32" | "below_min_gain")[];
        };
        /**
         * LineView
         * @description How a line has ended; `task_id` is null if it never became a task.
         */
        LineView: {
            line: number;
            custom_id: string;
            task_id: string | null;
            status: components["schemas"]["State"];
            result: components["schemas"]["LineResultView"] | null;
            error: components["schemas"]["ErrorView"] | null;
        };
        /**
         * LinksRequest
         * @description What the links of the answer can do: with `token`, whoever has it may read the task, without a key.
         */
        LinksRequest: {
            /**
             * @description answer a token that opens status, events and result of this task
             * @default false
             */
            token?: boolean | null;
            /**
             * @description how long the token works
             * @default 86400
             */
            ttl_s?: number | null;
        };
        /**
         * LinksView
         * @description Links to what can be done with a task, relative to the server. `token` is there where the submit asked for one,
         *     and where it was sent: with `?token=` behind them, `self`, `events` and `result` need no key.
         */
        LinksView: {
            self: string;
            cancel: string;
            events: string;
            result: string;
            token?: string;
        };
        /**
         * MemberView
         * @description A member of `input`: an image or another file, of one of the media types if there are any, or JSON that fits the
         *     schema.
         */
        MemberView: {
            /** @enum {unknown} */
            kind: "file" | "image" | "json";
            required: boolean;
            description: string;
            media_types: string[];
            schema: Record<string, unknown>;
        };
        /**
         * MemoryView
         * @description Memory in bytes: what the process uses on the host, what the images of its running tasks use and may use, what
         *     all its models together may use on the device (null if the driver does not say, or if the device is the host), and
         *     what is page-locked on the host for a GPU.
         */
        MemoryView: {
            process: number;
            tasks: number;
            tasks_limit: number;
            device_limit: number | null;
            pinned: number;
        };
        /**
         * ModelList
         * @description The models that are served, by name, and the versions that no worker can serve.
         */
        ModelList: {
            data: components["schemas"]["ModelView"][];
            faulty: components["schemas"]["FaultyModelView"][];
        };
        /**
         * ModelView
         * @description A model that is served, with its versions, the oldest first. What is said of the model is said of this `version`,
         *     the default one unless another was asked for: `state` and `guessed` are those in `versions`, `params` is the JSON
         *     Schema of a task's `params`, `inputs` has the members of its `input`, and `score_range` has the bounds of `score` in
         *     the data of a model that gives one.
         */
        ModelView: {
            name: string;
            title: string;
            version: string;
            versions: components["schemas"]["VersionView"][];
            state: ("cold" | "evicted" | "failed" | "loading" | "ready") | null;
            guessed: {
                [key: string]: string;
            };
            licence: string;
            source: string;
            /** @enum {unknown} */
            produces: "any" | "data" | "image";
            score_range: components["schemas"]["RangeView"] | null;
            limits: components["schemas"]["LimitsView"];
            notes: Record<string, unknown>;
            params: Record<string, unknown>;
            inputs: {
                [key: string]: components["schemas"]["MemberView"];
            };
            example: components["schemas"]["ExampleView"] | null;
        };
        /**
         * NewKeyView
         * @description A key that was just made. `key` is its text, which is shown this once and stored nowhere. `replaced` is the key
         *     whose place it takes, and which works until its `expires_at`.
         */
        NewKeyView: {
            key: string;
            record: components["schemas"]["KeyView"];
            replaced: components["schemas"]["KeyView"] | null;
        };
        /**
         * OpenedView
         * @description Where to send the bytes: with `method` to `url`, with these `headers` and without an API key. The request must
         *     begin before `expires_at`.
         */
        OpenedView: {
            upload_id: string;
            url: string;
            /** @enum {unknown} */
            method: "PUT";
            headers: {
                [key: string]: string;
            };
            /** Format: date-time */
            expires_at: string;
        };
        /**
         * OutputRequest
         * @description How a result image is written. `source` is the format of the input, jpg is another word for jpeg. PNG and TIFF
         *     are always lossless, `lossless` makes WebP so: about as small, and up to three times as fast to write. A PNG may
         *     have 16 `bits` where the model computes with as many. `metadata: keep` keeps the EXIF of the input that describes
         *     the photo, without its places unless `keep_location` is set. What a format cannot do is refused.
         */
        OutputRequest: {
            /** @default png */
            format?: ("avif" | "jpeg" | "jpg" | "png" | "source" | "tiff" | "webp") | null;
            /**
             * @description of jpeg, webp and avif
             * @default 90
             */
            quality?: number | null;
            /** @default false */
            lossless?: boolean | null;
            /** @default null */
            max_bytes?: number | null;
            /** @default null */
            chroma?: ("420" | "422" | "444") | null;
            /** @default null */
            background?: string | null;
            /** @default null */
            dpi?: number | null;
            /**
             * @description of each sample: 16 of png
             * @default 8
             */
            bits?: (8 | 16) | null;
            /**
             * @description `keep`: the colours of the input, whose profile the result then has, are not converted to sRGB
             * @default srgb
             */
            color?: ("keep" | "srgb") | null;
            /** @default strip */
            metadata?: ("keep" | "strip") | null;
            /** @default false */
            keep_location?: boolean | null;
        };
        /**
         * PauseView
         * @description When a queue was paused, and the name of the key that did it.
         */
        PauseView: {
            /** Format: date-time */
            since: string;
            by: string;
        };
        /**
         * Post
         * @description What is done when the result is there: with `score`, image-scoring-v1 scores the input and the result.
         */
        Post: {
            /** @default false */
            score?: boolean | null;
            /** @default null */
            min_gain?: number | null;
        };
        /**
         * Priority
         * @description Strict classes, highest first. Within a class, API keys get equal shares of device time.
         * @enum {unknown}
         */
        Priority: "high" | "low" | "normal";
        /**
         * Problem
         * @description Why a request failed. `code` is stable, `detail` is for people, `param` names the member at fault, and `quota`
         *     the quota that is used up.
         */
        Problem: {
            type: string;
            title: string;
            status: number;
            detail: string;
            code: string;
            param: string | null;
            retryable: boolean;
            request_id: string;
            errors?: components["schemas"]["Finding"][];
            /** @enum {unknown} */
            quota?: "batch_lines" | "device_seconds_per_day" | "redis_bytes" | "requests_per_minute" | "storage_bytes" | "submits_per_minute" | "tasks_running" | "tasks_waiting";
        };
        /**
         * ProgressView
         * @description How much of the device work is done; `ratio` is done / total.
         */
        ProgressView: {
            ratio: number;
            unit: string;
            done: number;
            total: number;
        };
        /**
         * PurgedView
         * @description How many waiting tasks were canceled; if `has_more`, there may be others: repeat the request. With `dry_run` no
         *     task was canceled: `matched` says how many would be, and `task_ids` has the first 100 of them.
         */
        PurgedView: {
            matched: number;
            task_ids: string[];
            dry_run: boolean;
            canceled: number;
            has_more: boolean;
        };
        /**
         * QueueList
         * @description Queues by model, highest priority first.
         */
        QueueList: {
            data: components["schemas"]["QueueView"][];
        };
        /**
         * QueueView
         * @description The waiting tasks of one model and priority. `device_s` is the device time that they should take, or null
         *     until a task of the model has been measured.
         */
        QueueView: {
            model: string;
            priority: components["schemas"]["Priority"];
            depth: number;
            oldest_s: number;
            device_s: number | null;
            paused: components["schemas"]["PauseView"] | null;
        };
        /**
         * QuotaLeftView
         * @description What is left of the quotas that are about amounts, 0 when nothing is; null where there is no limit. Reserved
         *     device time counts as used.
         */
        QuotaLeftView: {
            tasks_waiting: number | null;
            tasks_running: number | null;
            redis_bytes: number | null;
            storage_bytes: number | null;
            batch_lines: number | null;
            device_seconds_per_day: number | null;
        };
        /**
         * Quotas
         * @description What one tenant may use, all of its keys together, counted over all API processes; 0 means no limit.
         */
        Quotas: {
            /** @default 0 */
            requests_per_minute?: number;
            /** @default 0 */
            submits_per_minute?: number;
            /** @default 0 */
            tasks_waiting?: number;
            /** @default 0 */
            tasks_running?: number;
            /** @default 0 */
            redis_bytes?: number;
            /** @default 0 */
            storage_bytes?: number;
            /** @default 0 */
            device_seconds_per_day?: number;
            /** @default 0 */
            batch_lines?: number;
        };
        /**
         * QuotasRequest
         * @description What a tenant has in place of the quotas of the settings: all that it has, since this replaces what was set
         *     before. One that is left out is as in the settings; 0 means no limit.
         */
        QuotasRequest: {
            /** @default null */
            requests_per_minute?: number | null;
            /** @default null */
            submits_per_minute?: number | null;
            /** @default null */
            tasks_waiting?: number | null;
            /** @default null */
            tasks_running?: number | null;
            /** @default null */
            redis_bytes?: number | null;
            /** @default null */
            storage_bytes?: number | null;
            /** @default null */
            device_seconds_per_day?: number | null;
            /** @default null */
            batch_lines?: number | null;
        };
        /**
         * QuotasView
         * @description What a tenant may use; 0 means no limit.
         */
        QuotasView: {
            requests_per_minute: number;
            submits_per_minute: number;
            tasks_waiting: number;
            tasks_running: number;
            redis_bytes: number;
            storage_bytes: number;
            device_seconds_per_day: number;
            batch_lines: number;
        };
        /**
         * QuoteView
         * @description What a submit would lead to. `run_device_s` is the device time of the task itself; an image behind a URL is not
         *     fetched for a quote: `input` and `output` are null, and its size is taken to be one megapixel.
         */
        QuoteView: {
            model: string;
            priority: components["schemas"]["Priority"];
            queue_position: number;
            ahead: components["schemas"]["AheadView"];
            run_device_s: number | null;
            /** @description Seconds until it should be done: the device time of the tasks that wait ahead of it (the mean of the model's last tasks) shared by the workers that are READY, and its own, by its size. Other models' tasks, download and upload are not in it. null while no task of the model has been measured or no worker serves it */
            eta_s: number | null;
            input: components["schemas"]["SizeView"] | null;
            output: components["schemas"]["SizeView"] | null;
        };
        /**
         * RangeView
         * @description The bounds of a number; both are possible values.
         */
        RangeView: {
            minimum: number;
            maximum: number;
        };
        /**
         * ResidenceView
         * @description Where a version is on one worker, since when, and why it has failed there. A `cold` or `evicted` version is
         *     loaded when a task wants it.
         */
        ResidenceView: {
            worker: string;
            device: string;
            /** @enum {unknown} */
            state: "cold" | "evicted" | "failed" | "loading" | "ready";
            since: string | null;
            memory_bytes: number;
            reason: string;
        };
        /**
         * ResultFileView
         * @description A file of a result, which `url` serves; its `name` is that of no other. `size` is in bytes, `width` and `height`
         *     are in pixels.
         */
        ResultFileView: {
            name: string;
            url: string;
            content_type: string;
            size: number;
            sha256: string;
            width: number | null;
            height: number | null;
        };
        /**
         * ResultView
         * @description The result: files, plain data, or both. What stands beside `files` is about the first of them, or about the data
         *     where there is none. Every read makes a new signed `url` of each. `notes` say what was done to the images of the
         *     input: turned upright, a colour profile converted or ignored, colours filled in under transparency, the first frame
         *     taken, metadata stripped, a truncated file accepted; and that the result was computed once more, in fp32, or that
         *     its score is below what was asked for.
         */
        ResultView: {
            s3_key: string | null;
            size: number | null;
            url: string;
            sha256: string | null;
            content_type: string;
            width: number | null;
            height: number | null;
            data: Record<string, unknown> | null;
            files: components["schemas"]["ResultFileView"][];
            notes: ("turned" | "profile_converted" | "profile_ignored" | "alpha_filled" | "first_frame" | "metadata_stripped" | "truncated" | "recomputed_in_fp32" | "below_min_gain")[];
        };
        /**
         * RetriedView
         * @description How many of the matching tasks were queued again.
         */
        RetriedView: {
            matched: number;
            task_ids: string[];
            dry_run: boolean;
            has_more: boolean;
            next_cursor: string | null;
            retried: number;
        };
        /**
         * RetryRequest
         * @description How often a transient failure is tried; at most as often as the operator allows.
         */
        RetryRequest: {
            max_attempts: number;
        };
        /**
         * RunningView
         * @description A task that a worker runs; tasks of other tenants are shown to operators who ask for them.
         */
        RunningView: {
            task_id: string;
            tenant: string;
            model: string;
            priority: components["schemas"]["Priority"];
            /** @enum {unknown} */
            stage: "done" | "fetch" | "infer" | "load" | "postprocess" | "prepare" | "queued" | "retry" | "upload";
            /** Format: date-time */
            claimed_at: string;
            progress: components["schemas"]["ProgressView"] | null;
        };
        /**
         * ScoringParams
         * @description With a `grid` of 2 or more, parts of the image are scored too: so many rows and columns, or fewer where a part
         *     would have less than 224 pixels of height or width.
         */
        ScoringParams: {
            /**
             * @description rows and columns of local scores; 1 leaves them out
             * @default 1
             */
            grid?: number | null;
            /**
             * @description take a JPEG or PNG that breaks off: what is missing is grey, black or transparent
             * @default false
             */
            accept_truncated?: boolean | null;
        };
        /**
         * SettingsView
         * @description The version of the server, and its settings by section and name; those that may have a secret are left out.
         */
        SettingsView: {
            version: string;
            settings: {
                [key: string]: Record<string, unknown>;
            };
        };
        /**
         * SizeView
         * @description The size of an image in pixels.
         */
        SizeView: {
            width: number;
            height: number;
        };
        /**
         * State
         * @description The six states of a task; `stage` and the code of its error tell more.
         * @enum {unknown}
         */
        State: "CANCELED" | "EXPIRED" | "FAILED" | "PENDING" | "RUNNING" | "SUCCESS";
        /**
         * StatsView
         * @description Numbers of tasks by status and of workers by state, the queues, and the backlog.
         */
        StatsView: {
            tasks: {
                [key: string]: number;
            };
            queues: components["schemas"]["QueueView"][];
            workers: {
                [key: string]: number;
            };
            backlog: components["schemas"]["BacklogView"];
        };
        /**
         * SubmittedView
         * @description The answer to a submit.
         */
        SubmittedView: {
            task_id: string;
            status: components["schemas"]["State"];
            queue_position: number | null;
            /** @description Seconds until it should be done: the device time of the tasks that wait ahead of it (the mean of the model's last tasks) shared by the workers that are READY, and its own, by its size. Other models' tasks, download and upload are not in it. null while no task of the model has been measured or no worker serves it */
            eta_s: number | null;
            links: components["schemas"]["LinksView"];
        };
        /**
         * SuperresParams
         * @description `general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original;
         *     `best` shows the most detail, some of it invented, and takes about 15 times as long.
         *
         *     With less `denoise` the result has more of the input's own grain: what the network took for noise comes back.
         *
         *     The result has `scale` times the size of the input, or the `width` and `height`, into which another shape goes as
         *     `fit` says: `inside` them, `outside`, `contain` with a border, `cover` with its edges cut off, or `fill` by being
         *     stretched.
         */
        SuperresParams: {
            /** @description scores of the input and of the result */
            post?: components["schemas"]["Post"] | null;
            /**
             * @description adds the files before, after and side_by_side; before is the input, enlarged bicubically
             * @default false
             */
            compare?: boolean | null;
            /** @default general */
            variant?: ("best" | "clean" | "general") | null;
            /**
             * @description how transparency is enlarged
             * @default network
             */
            alpha?: ("bicubic" | "network") | null;
            /**
             * @description how much of what the network takes for noise is left out
             * @default 1
             */
            denoise?: number | null;
            /**
             * @description how many times as wide and high the result is
             * @default 4
             */
            scale?: number | null;
            /** @default null */
            width?: number | null;
            /** @default null */
            height?: number | null;
            /** @default inside */
            fit?: ("contain" | "cover" | "fill" | "inside" | "outside") | null;
            /** @default null */
            tile?: number | null;
            /**
             * @description take a JPEG or PNG that breaks off: what is missing is grey, black or transparent
             * @default false
             */
            accept_truncated?: boolean | null;
        };
        /**
         * SuperresX4Request
         * @description A task to run. The same `client_request_id` with the same body names the same task.
         */
        SuperresX4Request: {
            /**
             * @description discriminator enum property added by openapi-typescript
             * @enum {string}
             */
            model: "superres-x4";
            input: components["schemas"]["InputRequest"];
            params?: components["schemas"]["SuperresParams"] | null;
            output?: components["schemas"]["OutputRequest"] | null;
            /** @default normal */
            priority?: components["schemas"]["Priority"] | null;
            /** @default null */
            client_request_id?: string | null;
            metadata?: {
                [key: string]: string | null;
            } | null;
            /** @default null */
            start_within_s?: number | null;
            /** @default null */
            finish_within_s?: number | null;
            /** @default null */
            timeout_s?: number | null;
            /** @default null */
            result_ttl_s?: number | null;
            /** @default null */
            retry?: components["schemas"]["RetryRequest"] | null;
            /** @default null */
            webhook?: components["schemas"]["WebhookRequest"] | null;
            /**
             * @description false: run it even if an equal task has a result; so does Cache-Control: no-cache
             * @default true
             */
            reuse?: boolean | null;
            links?: components["schemas"]["LinksRequest"] | null;
        };
        /**
         * TaskEvent
         * @description One event of the stream, for tools that read it event by event; for others it is a string.
         */
        TaskEvent: {
            id: string;
            /** @enum {unknown} */
            event: "status" | "progress" | "completed";
            data: string;
        };
        /**
         * TaskList
         * @description A page of tasks, newest first; `next_cursor` continues the list.
         */
        TaskList: {
            data: components["schemas"]["TaskView"][];
            has_more: boolean;
            next_cursor: string | null;
        };
        /**
         * TaskRequest
         * @description A task to run. The same `client_request_id` with the same body names the same task.
         */
        TaskRequest: components["schemas"]["ImageScoringV1Request"] | components["schemas"]["SuperresX4Request"];
        /**
         * TaskView
         * @description A task with its state, timing and result. `model_guessed` names the members of the definition of its model that
         *     nobody had confirmed when it was submitted: then its result may mean something else. `execution.model_digest` is
         *     there where the worker had other files of the model than `model_digest` says.
         */
        TaskView: {
            task_id: string;
            client_request_id: string | null;
            batch_id: string | null;
            custom_id: string | null;
            model: string;
            model_version: string | null;
            model_digest: string | null;
            model_guessed: string[];
            status: components["schemas"]["State"];
            /** @enum {unknown} */
            stage: "done" | "fetch" | "infer" | "load" | "postprocess" | "prepare" | "queued" | "retry" | "upload";
            priority: components["schemas"]["Priority"];
            progress: components["schemas"]["ProgressView"] | null;
            queue_position: number | null;
            /** Format: date-time */
            created_at: string;
            started_at: string | null;
            finished_at: string | null;
            expires_at: string | null;
            start_by: string | null;
            deadline: string | null;
            /**
             * @description Whose run gives the result. miss: its own; coalesced: that of an equal task which it waits for; hit: that of one which had ended
             * @enum {unknown}
             */
            reuse: "coalesced" | "hit" | "miss";
            timing: {
                [key: string]: number;
            };
            execution: Record<string, unknown>;
            attempts: components["schemas"]["AttemptView"][];
            result: components["schemas"]["ResultView"] | null;
            error: components["schemas"]["ErrorView"] | null;
            metadata: {
                [key: string]: string;
            };
            webhook: components["schemas"]["WebhookView"] | null;
            links: components["schemas"]["LinksView"];
        };
        /**
         * TenantList
         * @description Tenants, by name.
         */
        TenantList: {
            data: components["schemas"]["TenantView"][];
        };
        /**
         * TenantQuotasView
         * @description The quotas in force, and in `own` those of them that an administrator has set for this tenant.
         */
        TenantQuotasView: {
            tenant: string;
            quotas: components["schemas"]["QuotasView"];
            own: {
                [key: string]: number;
            };
        };
        /**
         * TenantUsageView
         * @description A tenant: what it holds now, what it may use (0 means no limit), what is left of that, and what it has used in
         *     all and on each day with any use.
         */
        TenantUsageView: {
            tenant: string;
            now: components["schemas"]["HeldView"];
            quotas: components["schemas"]["Quotas"];
            left: components["schemas"]["QuotaLeftView"];
            total: components["schemas"]["UsageView"];
            days: components["schemas"]["UsageDayView"][];
        };
        /**
         * TenantView
         * @description A tenant, the number of its keys that work, and those of its tasks that wait and run.
         */
        TenantView: {
            tenant: string;
            keys: number;
            pending: number;
            running: number;
            quotas: components["schemas"]["QuotasView"];
        };
        /**
         * TokensRevokedView
         * @description All task tokens that this tenant was given so far work no longer.
         */
        TokensRevokedView: {
            tenant: string;
        };
        /**
         * UploadRequest
         * @description A file that is going to be sent. The bytes must have this size, and this sha256 if it is given. A task can reuse
         *     the result of an equal one only if the sha256 is known.
         */
        UploadRequest: {
            /** @description Bytes; at most limits.max_upload_bytes */
            size: number;
            /** @default application/octet-stream */
            content_type?: string | null;
            /** @default null */
            sha256?: string | null;
            /** @default null */
            name?: string | null;
        };
        /**
         * UploadState
         * @description PENDING until the bytes have arrived, then READY. A deleted upload has no record, and so no state.
         * @enum {unknown}
         */
        UploadState: "PENDING" | "READY";
        /**
         * UploadView
         * @description An upload. `expires_at` is when it is deleted; it is null while the number `tasks` of tasks use it.
         *     `sha256` is null until it is known.
         */
        UploadView: {
            upload_id: string;
            status: components["schemas"]["UploadState"];
            size: number;
            content_type: string;
            sha256: string | null;
            tasks: number;
            name: string | null;
            /** Format: date-time */
            created_at: string;
            expires_at: string | null;
        };
        /**
         * UsageDayView
         * @description What was used on one day, from midnight to midnight in UTC.
         */
        UsageDayView: {
            submitted: number;
            success: number;
            failed: number;
            canceled: number;
            expired: number;
            device_seconds: number;
            bytes_in: number;
            bytes_out: number;
            /** Format: date */
            day: string;
        };
        /**
         * UsageReport
         * @description The usage of tenants on the days `from` to `to`, both included.
         */
        UsageReport: {
            /** Format: date */
            from: string;
            /** Format: date */
            to: string;
            data: components["schemas"]["TenantUsageView"][];
        };
        /**
         * UsageView
         * @description What was used: tasks that were submitted or run again, and that ended in each state; time that attempts kept a
         *     device busy, those that failed too; bytes of requests, inputs and uploads that came, and of outcomes and result
         *     files.
         */
        UsageView: {
            submitted: number;
            success: number;
            failed: number;
            canceled: number;
            expired: number;
            device_seconds: number;
            bytes_in: number;
            bytes_out: number;
        };
        /**
         * VersionView
         * @description A version that is served. `digest` changes whenever the version gives other results for the same input. `state`
         *     is the best of those on the READY workers, null where none knows the version. `guessed` says of each member of its
         *     definition that nobody has confirmed why it is a guess. `differs` has the workers by the digest that they have,
         *     where these are not the same.
         */
        VersionView: {
            version: string;
            digest: string;
            is_default: boolean;
            /** Format: date-time */
            published_at: string;
            state: ("cold" | "evicted" | "failed" | "loading" | "ready") | null;
            workers: components["schemas"]["ResidenceView"][];
            guessed: {
                [key: string]: string;
            };
            differs: {
                [key: string]: string[];
            };
        };
        /**
         * WebhookRequest
         * @description Whom to tell what happens to the task, by Standard Webhooks 1.0.
         */
        WebhookRequest: {
            /**
             * Format: uri
             * @description https URL that takes a signed POST
             */
            url: string;
            /**
             * @description default: every end
             * @default [
             *       "succeeded",
             *       "failed",
             *       "canceled",
             *       "expired"
             *     ]
             */
            events?: ("canceled" | "expired" | "failed" | "progress" | "succeeded")[] | null;
        };
        /**
         * WebhookView
         * @description The webhook of a task or a batch, and how its deliveries went.
         */
        WebhookView: {
            url: string;
            events: string[];
            log: components["schemas"]["EventView"][];
        };
        /**
         * WorkerList
         * @description A list of workers.
         */
        WorkerList: {
            data: components["schemas"]["WorkerStatusView"][];
        };
        /**
         * WorkerStatusView
         * @description A worker and the tasks that it runs.
         */
        WorkerStatusView: {
            id: string;
            device: string;
            host: string;
            models: string[];
            slots: number;
            running: number;
            /** @enum {unknown} */
            state: "DOWN" | "DRAINING" | "READY";
            /** Format: date-time */
            started_at: string;
            memory: components["schemas"]["MemoryView"] | null;
            spool_full: boolean;
            reason: string;
            tasks: components["schemas"]["RunningView"][];
        };
        /**
         * WorkerView
         * @description A worker with a current lease. `models` are loaded. A DRAINING worker claims no more tasks, nor does one whose
         *     spool is full of results that wait for the storage. A worker that is DOWN cannot run, as `reason` says: its device
         *     is lost or cannot be used, and is tried again later.
         */
        WorkerView: {
            id: string;
            device: string;
            host: string;
            models: string[];
            slots: number;
            running: number;
            /** @enum {unknown} */
            state: "DOWN" | "DRAINING" | "READY";
            /** Format: date-time */
            started_at: string;
            memory: components["schemas"]["MemoryView"] | null;
            spool_full: boolean;
            reason: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export interface operations {
    listTasks: {
        parameters: {
            query?: {
                /** @example superres-x4 */
                model?: string;
                /** @example high */
                priority?: components["schemas"]["Priority"];
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id?: string;
                /** @description the name of the API key that submitted the task */
                key?: string;
                /**
                 * @description the code of the error with which it ended
                 * @example model_error
                 */
                error_code?: string;
                /**
                 * @description the beginning of its id, such as tsk_019a9f
                 * @example tsk_019a9f3c
                 */
                id_prefix?: string;
                /**
                 * @description `metadata.<key>=<value>`: tasks with that entry
                 * @example {
                 *       "metadata.album": "42"
                 *     }
                 */
                metadata?: {
                    [key: string]: string;
                };
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-22T00:00:00Z
                 */
                created_after?: string;
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-23T00:00:00Z
                 */
                created_before?: string;
                /** @description `next_cursor` of the answer before */
                cursor?: string;
                status?: components["schemas"]["State"][];
                /** @example 50 */
                limit?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskList"];
                };
            };
        };
    };
    submitTask: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The same as client_request_id in the body
                 * @example order-991
                 */
                "Idempotency-Key"?: string;
                /**
                 * @description The same as finish_within_s: 90, 90s, 5m, 1h30m
                 * @example 5m
                 */
                "Cancel-After"?: string;
                /**
                 * @description `no-cache` is the same as reuse: false
                 * @example no-cache
                 */
                "Cache-Control"?: string;
                /**
                 * @description wait=n: seconds to wait for the end, 300 at most
                 * @example wait=30
                 */
                Prefer?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TaskRequest"];
            };
        };
        responses: {
            /** @description With `Prefer: wait`, a task that has ended; without, a task that was submitted before, as it is now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskView"];
                };
            };
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SubmittedView"];
                };
            };
        };
    };
    quoteTask: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description The same as client_request_id in the body
                 * @example order-991
                 */
                "Idempotency-Key"?: string;
                /**
                 * @description The same as finish_within_s: 90, 90s, 5m, 1h30m
                 * @example 5m
                 */
                "Cancel-After"?: string;
                /**
                 * @description `no-cache` is the same as reuse: false
                 * @example no-cache
                 */
                "Cache-Control"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TaskRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QuoteView"];
                };
            };
        };
    };
    getTask: {
        parameters: {
            query?: {
                /** @example 30 */
                wait?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: {
                "If-None-Match"?: string;
            };
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskView"];
                };
            };
        };
    };
    deleteTask: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, nothing follows */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    cancelTask: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskView"];
                };
            };
        };
    };
    watchTask: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: {
                /**
                 * @description The id of the last event that arrived
                 * @example RUNNING.1.infer.6
                 */
                "Last-Event-ID"?: string;
            };
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string | components["schemas"]["TaskEvent"];
                };
            };
            /** @description The task has ended, and the client has its end: do not reconnect */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    explainTask: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExplainView"];
                };
            };
        };
    };
    cancelTasks: {
        parameters: {
            query: {
                /** @example superres-x4 */
                model?: string;
                /** @example high */
                priority?: components["schemas"]["Priority"];
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id?: string;
                /** @description the name of the API key that submitted the task */
                key?: string;
                /**
                 * @description the code of the error with which it ended
                 * @example model_error
                 */
                error_code?: string;
                /**
                 * @description the beginning of its id, such as tsk_019a9f
                 * @example tsk_019a9f3c
                 */
                id_prefix?: string;
                /**
                 * @description `metadata.<key>=<value>`: tasks with that entry
                 * @example {
                 *       "metadata.album": "42"
                 *     }
                 */
                metadata?: {
                    [key: string]: string;
                };
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-22T00:00:00Z
                 */
                created_after?: string;
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-23T00:00:00Z
                 */
                created_before?: string;
                /** @description `next_cursor` of the answer before */
                cursor?: string;
                /** @description change nothing: `matched` and `task_ids` say which tasks would be hit */
                dry_run?: boolean;
                /** @description needed if `status` is the only filter */
                all?: boolean;
                status: ("PENDING" | "RUNNING")[];
                /** @example 50 */
                limit?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CanceledView"];
                };
            };
        };
    };
    deleteTasks: {
        parameters: {
            query: {
                /** @example superres-x4 */
                model?: string;
                /** @example high */
                priority?: components["schemas"]["Priority"];
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id?: string;
                /** @description the name of the API key that submitted the task */
                key?: string;
                /**
                 * @description the code of the error with which it ended
                 * @example model_error
                 */
                error_code?: string;
                /**
                 * @description the beginning of its id, such as tsk_019a9f
                 * @example tsk_019a9f3c
                 */
                id_prefix?: string;
                /**
                 * @description `metadata.<key>=<value>`: tasks with that entry
                 * @example {
                 *       "metadata.album": "42"
                 *     }
                 */
                metadata?: {
                    [key: string]: string;
                };
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-22T00:00:00Z
                 */
                created_after?: string;
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-23T00:00:00Z
                 */
                created_before?: string;
                /** @description `next_cursor` of the answer before */
                cursor?: string;
                /** @description change nothing: `matched` and `task_ids` say which tasks would be hit */
                dry_run?: boolean;
                /** @description needed if `status` is the only filter */
                all?: boolean;
                status: ("SUCCESS" | "FAILED" | "CANCELED" | "EXPIRED")[];
                /** @example 50 */
                limit?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeletedView"];
                };
            };
        };
    };
    retryTask: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskView"];
                };
            };
        };
    };
    retryTasks: {
        parameters: {
            query: {
                /** @example superres-x4 */
                model?: string;
                /** @example high */
                priority?: components["schemas"]["Priority"];
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id?: string;
                /** @description the name of the API key that submitted the task */
                key?: string;
                /**
                 * @description the code of the error with which it ended
                 * @example model_error
                 */
                error_code?: string;
                /**
                 * @description the beginning of its id, such as tsk_019a9f
                 * @example tsk_019a9f3c
                 */
                id_prefix?: string;
                /**
                 * @description `metadata.<key>=<value>`: tasks with that entry
                 * @example {
                 *       "metadata.album": "42"
                 *     }
                 */
                metadata?: {
                    [key: string]: string;
                };
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-22T00:00:00Z
                 */
                created_after?: string;
                /**
                 * @description RFC 3339, with its zone
                 * @example 2026-11-23T00:00:00Z
                 */
                created_before?: string;
                /** @description `next_cursor` of the answer before */
                cursor?: string;
                /** @description change nothing: `matched` and `task_ids` say which tasks would be hit */
                dry_run?: boolean;
                /** @description needed if `status` is the only filter */
                all?: boolean;
                status: ("FAILED" | "CANCELED" | "EXPIRED")[];
                /** @example 50 */
                limit?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RetriedView"];
                };
            };
        };
    };
    redeliverWebhook: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TaskView"];
                };
            };
        };
    };
    listBatches: {
        parameters: {
            query?: {
                /** @example 50 */
                limit?: number;
                /** @description `next_cursor` of a page */
                cursor?: string;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchList"];
                };
            };
        };
    };
    submitBatch: {
        parameters: {
            query?: {
                /**
                 * @description of a JSONL body: JSON with all members of the body but `lines`
                 * @example {"defaults": {"model": "image-scoring-v1"}}
                 */
                options?: string;
            };
            header?: {
                /**
                 * @description The same as client_request_id
                 * @example order-991
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BatchRequest"];
                "application/jsonl": string;
                "application/x-ndjson": string;
            };
        };
        responses: {
            /** @description The batch submitted before */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchView"];
                };
            };
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchView"];
                };
            };
        };
    };
    getBatch: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: {
                "If-None-Match"?: string;
            };
            path: {
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchView"];
                };
            };
        };
    };
    deleteBatch: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, nothing follows */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    cancelBatch: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchView"];
                };
            };
        };
    };
    getBatchResults: {
        parameters: {
            query?: {
                /** @description how many lines to leave out */
                start?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Stream Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/jsonl": string;
                    "application/x-ndjson": string;
                };
            };
        };
    };
    redeliverBatchWebhook: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example bat_019a9f3c5d107be25d81c3f0927ad6e4 */
                batch_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchView"];
                };
            };
        };
    };
    getTaskResult: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: {
                "If-None-Match"?: string;
                /**
                 * @description one range, of a file
                 * @example bytes=1048576-
                 */
                Range?: string;
                /** @description the ETag of the first part */
                "If-Range"?: string;
            };
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": string;
                    "image/jpeg": string;
                    "image/webp": string;
                    "image/avif": string;
                    "image/tiff": string;
                    "application/json": Record<string, unknown>;
                };
            };
            /** @description The bytes of the `Range` */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": string;
                    "image/jpeg": string;
                    "image/webp": string;
                    "image/avif": string;
                    "image/tiff": string;
                };
            };
        };
    };
    getTaskLog: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    getTaskResultFile: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: {
                "If-None-Match"?: string;
                /**
                 * @description one range, of a file
                 * @example bytes=1048576-
                 */
                Range?: string;
                /** @description the ETag of the first part */
                "If-Range"?: string;
            };
            path: {
                /** @example tsk_019a9f3c5d108f3b2c71d04e6a95b8c2 */
                task_id: string;
                /** @example mask.png */
                result_name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "*/*": string;
                };
            };
            /** @description The bytes of the `Range` */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "*/*": string;
                };
            };
        };
    };
    openUpload: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["UploadRequest"];
            };
        };
        responses: {
            /** @description Document created, URL follows */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OpenedView"];
                };
            };
        };
    };
    getUpload: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example upl_5f0c1d7a9b3e4286a1f4c07d92be63d8 */
                upload_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UploadView"];
                };
            };
        };
    };
    sendUpload: {
        parameters: {
            query?: {
                token?: string;
            };
            header?: never;
            path: {
                /** @example upl_5f0c1d7a9b3e4286a1f4c07d92be63d8 */
                upload_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "*/*": string;
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UploadView"];
                };
            };
        };
    };
    deleteUpload: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example upl_5f0c1d7a9b3e4286a1f4c07d92be63d8 */
                upload_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, nothing follows */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    listModels: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelList"];
                };
            };
        };
    };
    getModel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example superres-x4 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelView"];
                };
            };
        };
    };
    setDefaultVersion: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example superres-x4 */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DefaultVersionRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelView"];
                };
            };
        };
    };
    loadModel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example superres-x4 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelView"];
                };
            };
        };
    };
    unloadModel: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example superres-x4 */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request accepted, processing continues off-line */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelView"];
                };
            };
        };
    };
    listWorkers: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key, or `*` for all; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerList"];
                };
            };
        };
    };
    drainWorker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example gpu1-cuda0-4f2a */
                worker_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerStatusView"];
                };
            };
        };
    };
    resumeWorker: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example gpu1-cuda0-4f2a */
                worker_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerStatusView"];
                };
            };
        };
    };
    listQueues: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QueueList"];
                };
            };
        };
    };
    pauseQueue: {
        parameters: {
            query?: {
                /** @example high */
                priority?: components["schemas"]["Priority"];
            };
            header?: never;
            path: {
                /** @example superres-x4 */
                model: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QueueList"];
                };
            };
        };
    };
    resumeQueue: {
        parameters: {
            query?: {
                /** @example high */
                priority?: components["schemas"]["Priority"];
            };
            header?: never;
            path: {
                /** @example superres-x4 */
                model: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QueueList"];
                };
            };
        };
    };
    purgeQueue: {
        parameters: {
            query?: {
                /** @example high */
                priority?: components["schemas"]["Priority"];
                /** @description change nothing: `matched` and `task_ids` say which tasks would be hit */
                dry_run?: boolean;
                /** @example 50 */
                limit?: number;
                /**
                 * @description another tenant than that of the key; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path: {
                /** @example superres-x4 */
                model: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PurgedView"];
                };
            };
        };
    };
    getStats: {
        parameters: {
            query?: {
                /**
                 * @description another tenant than that of the key, or `*` for all; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["StatsView"];
                };
            };
        };
    };
    readSettings: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SettingsView"];
                };
            };
        };
    };
    listKeys: {
        parameters: {
            query?: {
                /** @example acme */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyList"];
                };
            };
        };
    };
    createKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["KeyRequest"];
            };
        };
        responses: {
            /** @description Document created, URL follows */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKeyView"];
                };
            };
        };
    };
    getKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example 4fQm1ZbT0xYk */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyView"];
                };
            };
        };
    };
    revokeKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example 4fQm1ZbT0xYk */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyView"];
                };
            };
        };
    };
    rotateKey: {
        parameters: {
            query?: {
                /** @example 86400 */
                overlap_s?: number;
            };
            header?: never;
            path: {
                /** @example 4fQm1ZbT0xYk */
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKeyView"];
                };
            };
        };
    };
    revokeTokens: {
        parameters: {
            query: {
                /** @example acme */
                tenant: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokensRevokedView"];
                };
            };
        };
    };
    listTenants: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantList"];
                };
            };
        };
    };
    getQuotas: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example acme */
                tenant: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantQuotasView"];
                };
            };
        };
    };
    setQuotas: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example acme */
                tenant: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["QuotasRequest"];
            };
        };
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantQuotasView"];
                };
            };
        };
    };
    resetQuotas: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @example acme */
                tenant: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TenantQuotasView"];
                };
            };
        };
    };
    readAudit: {
        parameters: {
            query?: {
                /** @example 50 */
                limit?: number;
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
        };
    };
    readUsage: {
        parameters: {
            query?: {
                /**
                 * @description the first day, such as 2026-11-01
                 * @example 2026-11-01
                 */
                from?: string;
                /**
                 * @description the last day
                 * @example 2026-11-30
                 */
                to?: string;
                /**
                 * @description another tenant than that of the key, or `*` for all; takes the scope `operate` as well
                 * @example acme
                 */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Request fulfilled, document follows */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UsageReport"];
                };
            };
        };
    };
}
