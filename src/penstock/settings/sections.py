"""The tree of settings: one frozen struct for each section, with the defaults.

config.example.toml shows every setting with the same explanation.
"""

from typing import Annotated, Literal

from msgspec import Meta, field

from penstock.core.quotas import Amount, QuotaName, Quotas
from penstock.settings.operating import ConsoleSettings, TelemetrySettings, UpSettings
from penstock.settings.types import NonNegative, NotBelowZero, Port, Positive, Seconds, Section, Shown


class ApiSettings(Section, frozen=True):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: Port = 8000
    processes: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that accept connections at this address and share the work, in `penstock api` and `penstock up`; each
    uses one core. What counts for each of them, and what for all, is in docs/how-to/scale.md."""
    keys: tuple[str, ...] = ()
    """API keys, each `secret`, `name:secret` or `name:secret:scopes` (such as `read+submit`); a secret has at least 16
    characters, a name letters, digits, `_`, `.` and `-`."""
    rate_limit_per_minute: NonNegative = 600
    """Submits of one key in any 60 s, and as many uploads, counted over all API processes; 0 means no limit."""
    wrong_keys_per_minute: NonNegative = 60
    """Requests without a right key that one address may send in a minute to one API process; further ones are answered
    429 before their key is looked at, a second later each. Keys that were right before are let through. 0 means no
    limit."""
    linger_s: NotBelowZero = 2.0
    """After SIGTERM: how long new requests are still answered while /readyz already says 503. Set it longer than the
    interval in which the load balancer checks /readyz."""
    drain_s: Seconds = 5.0
    """After `linger_s`: how long requests in flight may take to finish."""
    keep_alive_s: Seconds = 75.0
    """How long a connection without requests stays open. Set it longer than a proxy in front of the server does (60 s
    for most), so that the proxy closes the connection and no request meets a closed one."""
    receive_s: Seconds = 30.0
    """Time of a client to send a request, from its first byte to the end of its body, beside what its bytes take at
    `receive_bytes_per_s`; then it is answered 408. One that sends nothing for so long, or for twice that, is too."""
    receive_bytes_per_s: Positive = 32 * 1024
    """The slowest that a large body may come."""
    max_connections: NonNegative = 0
    """Connections of clients that one API process holds. When there are more, the longest silent one is closed for the
    next, and when none is silent, the next is answered 503. 0 means 8,192, or as many as three quarters of the limit of
    open files."""
    max_connections_per_address: NonNegative = 0
    """Those of one address; of IPv6, of one network of 64 bits. Requests in progress are counted instead behind
    `trusted_proxies`, by the address of the client. 0 means half of `max_connections`."""
    max_requests_per_tenant: NonNegative = 0
    """Requests of all keys of one tenant that one API process works on at a time, open event streams and waits among
    them; further ones are answered 429. 0 means half of `max_connections_per_address`."""
    public_url: str = ""
    """URL under which clients reach the server, such as `https://images.example.com`; all links begin with it. When it
    is empty, links begin with the Host of the request. No input is fetched from this host, and no webhook sent to it;
    workers need it only for that."""
    docs: Shown = "auto"
    """Serve `/docs` and `/schema/openapi.json`, which need no key: `on`, `off`, or `auto`, which is on in `penstock up`
    alone."""
    metrics: Shown = "auto"
    """Serve `/metrics`, which needs no key, on the port of the API: `on`, `off`, or `auto`, which is on in
    `penstock up` alone."""
    metrics_port: Port = 0
    """Port on which `penstock api` serves the metrics of all its processes apart, at `telemetry.metrics_host`; 0 means
    none."""
    cors_origins: tuple[str, ...] = ()
    """Origins, such as `https://shop.example.com`, whose pages may use the API with a key that they have. Pages of any
    origin may send uploads to their URLs, and read a task by its token."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks, such as `10.0.0.0/8`, of proxies whose headers `Forwarded` and `X-Forwarded-Proto`,
    `-Host`, `-Port` and `-For` are trusted."""


class RedisSettings(Section, frozen=True):
    """The task store."""

    url: str = "redis://127.0.0.1:6379/0"
    """`redis://`, `rediss://` or `unix:///path`; `redis+sentinel://host1:26379,host2:26379/MASTER` for the master that
    these sentinels name; `redis+cluster://host1:6379,host2:6379` for a cluster. `rediss+sentinel` and `rediss+cluster`
    are with TLS. User and password may be part of the URL, with characters such as `@` percent-encoded."""
    password: str = ""
    """Password of Redis as it is, for a URL without one."""
    sentinel_username: str = ""
    """User of the sentinels, where they have users."""
    sentinel_password: str = ""
    """Password of the sentinels; they do not get that of Redis."""
    tls_ca: str = ""
    """PEM file of the CA of Redis, for URLs with TLS; the CAs of the machine are trusted too. The certificate must be
    for the host in the URL, or for the one that sentinels and nodes announce."""
    tls_certificate: str = ""
    """PEM file of our certificate, for a Redis that wants one of its clients."""
    tls_key: str = ""
    """PEM file of its key."""
    namespace: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "penstock"
    """Prefix of all keys in Redis and in the storage, so that several installations can share either."""
    timeout_s: Seconds = 2.0
    """Longest wait for one answer of Redis."""
    shards: Annotated[int, Meta(ge=1, le=64)] = 1
    """Hash tags over which the tenants are spread, each with all that is its own, so that the nodes of a cluster share
    the work. It is settled with the first start, and every process must have the same."""
    wait_replicas: NonNegative = 0
    """Replicas that must have a task or a batch before it is acknowledged, so that a failover does not lose it; without
    so many of them, submits are answered 503. 0 waits for none."""


class QueueSettings(Section, frozen=True):
    """How tasks are admitted, ordered and retried."""

    max_depth: Positive = 100_000
    """Tasks that may wait for one model; further submits are refused with `queue_full`."""
    starvation_guard: NonNegative = 20
    """How often a waiting lower priority may be passed over before it is served, by claims and by batches on the device
    alike; a large task on the device, too. 0 turns the guard off."""
    max_retries: NonNegative = 3
    """Retries after a transient error."""
    max_crashes: Positive = 3
    """Deaths of workers after which the task that they ran fails as `poison_input`."""
    retry_base_s: Seconds = 1.0
    """The wait before retry n is random, from 0 to base x 2^(n-1), but at most `retry_cap_s`."""
    retry_cap_s: Seconds = 60.0
    lease_s: Seconds = 6.0
    """A worker that has not renewed its leases for this long loses its tasks; it renews them four times as often."""
    result_ttl_s: Positive = 86_400
    """How long a task and its result are kept after the task has ended."""
    usage_days: Positive = 400
    """How long it is known what each tenant has used on a day."""
    batch_window: Positive = 500
    """Tasks of one batch that wait or run at a time; the other lines are enqueued later."""
    max_batches: Positive = 20
    """Unfinished batches of one API key; further ones are refused with `too_many_batches`."""
    inline_input_bytes: NonNegative = 256 * 1024
    """Inputs of a task that come inside of its request stay in Redis, beside its record, when they have no more bytes
    than this in all; larger ones are stored as files or objects before the task is acknowledged. 0 stores all."""
    inline_budget_bytes: NonNegative = 64 * 1024 * 1024
    """The most bytes of Redis that all of these inputs take; while it is used up, further ones are stored. When more
    than half of it is used, those of ended tasks are moved to the storage."""
    reuse: bool = True
    """Tasks of one API key with equal model, params and input bytes share one run and its result. Inputs that are given
    as a URL are never shared."""


class ModelSettings(Section, frozen=True):
    """Which models are served."""

    modules: tuple[str, ...] = ()
    """Models of your own, imported by the workers: Python modules by name, `.py` files and folders of such files by
    path, as in `./my_models.py`. The API imports no model: it knows those that workers have published."""
    serve: tuple[str, ...] = ()
    """Names of the models to serve, or of versions of them, such as `name@2`; empty means all. A worker may serve fewer
    models than the API accepts."""
    directory: str = "penstock-data/models"
    """Directory of models without code, `<name>/<version>/model.toml` with their files: a worker serves what is there,
    and sees what is added or removed while it runs. `penstock up` takes `models` in its data directory."""


class WorkerSettings(Section, frozen=True):
    """The processes that run models."""

    gpu_ids: str = "auto"
    """`auto` (with onnxruntime-gpu every GPU that CUDA_VISIBLE_DEVICES leaves, else the CPU), `cpu`, or a list of
    numbers of `nvidia-smi` and of UUIDs, such as `0,1`, `GPU-5d5b` or `MIG-c6d4`; `0x2` runs two workers on GPU 0."""
    slots: NonNegative = 0
    """Most tasks in flight in one worker process: some run on the device while others are fetched, decoded, encoded and
    uploaded. A worker holds fewer when these keep its device busy. 0 means 8 on a CPU; on a GPU those of three device
    batches and one for each core that encodes, as far as memory allows."""
    reserved_slots: NonNegative = 1
    """Further slots for tasks of high priority, and for tasks that were passed over too often."""
    threads: NonNegative = 0
    """ONNX Runtime threads of one CPU worker; 0 means one for each core."""
    task_timeout_s: Seconds = 600.0
    """Longest work of one attempt, unless the task asks for less. The time that it waits behind others does not
    count."""
    start_s: Seconds = 180.0
    """Longest start of a worker process, in which it loads and warms up its models; after that it is killed and started
    again. It is also the longest load of one model of the repository; after that its tasks end as `model_unavailable`.
    A worker that serves is killed when it gives no sign of life for three times `queue.lease_s`."""
    device_retry_s: Seconds = 300.0
    """A device that is lost or cannot be used is marked down, the others go on, and it is tried again this often."""
    drain_s: Positive = 25
    """After SIGTERM: how long running tasks may take to finish before they are released to other workers."""
    spool_directory: str = ""
    """Directory in which results wait while the storage is away; empty means the system's temporary directory."""
    spool_max_bytes: NonNegative = 1024 * 1024 * 1024
    """Bytes of the spool of one worker process. When it is full, results wait in memory and the worker claims no
    tasks."""
    memory_bytes: NonNegative = 0
    """Memory of one worker process for the images of its tasks; a task that does not fit waits. 0 means 60 % of the
    memory of the machine (or the container), divided among the workers of this host, and no more than the models leave;
    a task that needs more than they leave fails as `insufficient_memory`."""
    pinned_bytes: NonNegative = 0
    """Memory of one worker process that may be page-locked, so that a GPU copies its input and results at full speed.
    It is counted in `memory_bytes`, of which it takes half at most. 0 means 2 GiB, on WSL 512 MiB, and at most a
    quarter of `memory_bytes`."""
    max_batch: Positive = 8
    """Most tiles in one run of a GPU, and of tiles larger than 512 x 512 px as many as have as many pixels; a CPU runs
    tiles one by one."""
    precision: Literal["auto", "fp32"] = "auto"
    """On a GPU, `auto` uses fp16 for models that have an fp16 file and pass the comparison with fp32 at the start."""
    gpu_memory_bytes: NonNegative = 0
    """The most GPU memory that the models of a worker may use; 0 means its share of the card less 1.5 GiB."""
    model_memory_bytes: NonNegative = 0
    """Memory of one worker process for the models of the repository that are loaded; the least recently used one makes
    room for the next. 0 means a fifth of the memory of the machine, divided among its workers; on a GPU half of what
    the models' runs may use."""
    cuda_graphs: bool = False
    """Replay small batches as CUDA graphs: experimental, see docs/how-to/tune-a-gpu.md."""
    tensorrt: bool = False
    """Run models with TensorRT 10, which must be installed: experimental, see docs/how-to/tune-a-gpu.md."""
    cuda_options: str = "auto"
    """Options of ONNX Runtime's CUDA provider: `none`, or one or both of `fuse_conv_bias` and `prefer_nhwc`, separated
    by a comma. `auto` measures at the first start on a card which are fastest there; it takes some seconds for each
    model file."""
    cache_dir: str = ""
    """Directory for what a worker measures once on a machine, and in `models` for the models that it fetches from the
    storage, which need as much room as their files. Empty means `penstock` in `XDG_CACHE_HOME`, else in `~/.cache`."""
    engine_cache_dir: str = ""
    """Directory for the engines of TensorRT, which take minutes to build. Only Penstock should be able to write to
    it."""


class StorageSettings(Section, frozen=True):
    """Where inputs and results are kept."""

    local: bool = True
    """True: a directory of this machine. False: an S3 bucket."""
    directory: str = "penstock-data/objects"
    s3_endpoint: str = ""
    """URL of the S3 server, such as SeaweedFS or MinIO; empty means AWS."""
    s3_bucket: str = "penstock"
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    """Empty: credentials come from the usual AWS chain (environment, profile, instance role)."""
    s3_secret_key: str = ""
    s3_public_endpoint: str = ""
    """URL of the host in the links that clients get for downloads and uploads, where it is not `s3_endpoint`."""
    url_ttl_s: Annotated[int, Meta(ge=1, le=604_800)] = 900
    """Lifetime of a signed link. A transfer that has begun by then may take longer."""
    upload_ttl_s: Positive = 86_400
    """How long a complete upload that no task uses is kept."""
    sweep: bool = False
    """Each hour, delete the objects older than a day that no record knows of; otherwise they are only counted. See
    docs/how-to/buckets.md."""


class LimitSettings(Section, frozen=True):
    """What an input may be, and how much data a result may hold. Inputs are checked before they are decoded."""

    max_body_bytes: Positive = 32 * 1024 * 1024
    max_bodies_bytes: Positive = 1024 * 1024 * 1024
    """Bodies that the API receives into memory at a time, divided among its processes, but at least two of the longest
    for each; a tenant may have half of it. Further ones are answered 503, or 429."""
    max_batch_bytes: Positive = 200 * 1024 * 1024
    max_input_bytes: Positive = 50 * 1024 * 1024
    """Largest image or file that a task names, wherever it comes from."""
    max_inputs_bytes: Positive = 100 * 1024 * 1024
    """All files of one task together; `max_input_bytes` where that is more."""
    max_json_bytes: Positive = 4 * 1024 * 1024
    """Longest JSON of one member of the input of a task."""
    max_upload_bytes: Positive = 200 * 1024 * 1024
    max_image_megapixels: Positive = 50
    max_result_megapixels: NonNegative = 0
    """Most pixels of a result image, in millions; 0 means 16 times `max_image_megapixels`, which is what the largest
    image has when it is four times as wide and high."""
    max_image_scans: Positive = 100
    """Most scans of a JPEG. A progressive photo has about 10, and each costs a pass over all of its pixels."""
    max_image_chunks: Positive = 50_000
    """Most chunks of a PNG or WebP, and segments of a JPEG."""
    animations: Literal["refuse", "first_frame"] = "refuse"
    """What becomes of an animated image: an error, `image_animated`, or a result that is made of its first frame."""
    fetch_timeout_s: Seconds = 20.0
    max_redirects: NonNegative = 3
    allow_http: bool = True
    """Fetch `http:` URLs, not only `https:`."""
    ports: tuple[Port, ...] = (80, 443)
    allow_networks: tuple[str, ...] = ()
    """Private networks that inputs may be fetched from and webhooks sent to, such as `10.20.0.0/16`, at any port where
    the URL has the address itself; the metadata services of clouds stay blocked. A connection there that fails does so
    at the deadline (`fetch_timeout_s`, `webhooks.timeout_s`) and without a reason, so that no client can find out which
    ports are open."""
    s3_inputs: tuple[str, ...] = ()
    """Buckets, or `bucket/prefix`, from which every API key may read inputs as `s3://bucket/key`, with the endpoint and
    the credentials of the storage."""
    max_result_data_bytes: Positive = 256 * 1024
    """JSON data that a model may return beside, or instead of, files; with more the task fails as
    `model_result_invalid`."""
    max_result_files: Positive = 64
    """Files of one result; with more the task fails as `model_result_invalid`."""
    max_result_bytes: Positive = 4 * 1024 * 1024 * 1024
    """Bytes of the files of one result together; with more the task fails as `model_result_invalid`."""

    @property
    def result_megapixels(self) -> int:
        """Most pixels of a result image, in millions."""
        return self.max_result_megapixels or 16 * self.max_image_megapixels

    @property
    def bytes_in_all(self) -> int:
        """Bytes that all files of one task may have together."""
        return max(self.max_inputs_bytes, self.max_input_bytes)


class QuotaSettings(Quotas, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may use, all of its keys together, counted over all API processes; 0 means no limit."""

    tenants: dict[str, dict[QuotaName, Amount]] = field(default_factory=dict)
    """Quotas of single tenants, such as `{acme = {tasks_waiting = 100}}`, or as sections `[quotas.tenants.acme]` in
    place of this line; what one does not name is as above. The variable is JSON: `{"acme": {"tasks_waiting": 100}}`."""

    def of(self, tenant: str) -> Quotas:
        """Return the quotas of this tenant."""
        return self.changed_by(self.tenants.get(tenant, {}))


class WebhookSettings(Section, frozen=True):
    """Messages about tasks and batches to URLs of the clients."""

    secrets: tuple[str, ...] = ()
    """Secrets, each `whsec_` and the base64 of 24 to 64 random bytes. Messages are signed with all of them, so that a
    secret can be replaced without a gap. Without any, tasks with a webhook are refused."""
    allow_http: bool = False
    """Send to `http:` URLs, not only `https:`. Ports and private networks are those of the section `limits`."""
    timeout_s: Seconds = 15.0
    """Longest wait for the answer to one message."""
    retries_s: tuple[NotBelowZero, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Waits before each retry: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h (Standard Webhooks 1.0)."""


class Settings(Section, frozen=True):
    """The whole tree of settings."""

    api: ApiSettings = ApiSettings()
    console: ConsoleSettings = ConsoleSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    models: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    limits: LimitSettings = LimitSettings()
    quotas: QuotaSettings = QuotaSettings()
    webhooks: WebhookSettings = WebhookSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    up: UpSettings = UpSettings()

    @property
    def bodies_of_process(self) -> int:
        """Bytes of bodies that each process of the API may receive into memory at a time."""
        most = self.limits.max_bodies_bytes
        return max(most // self.api.processes, min(most, 2 * self.limits.max_body_bytes))
