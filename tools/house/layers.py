"""Which part of the package may import which, and the places of the vendor libraries.

Layers are listed from the bottom up. An entry is a module, or a folder with all that is in it; it may import what
stands in a lower layer, and itself. What stands in one layer may not know one another.
"""

LAYERS: list[set[str]] = [
    {"errors", "lazy_import"},
    {"settings"},
    {"core"},
    {"net"},
    {"telemetry"},
    {"storage", "client"},
    {"store"},
    {"weights"},
    {"models"},
    {"runners"},
    {"intake"},
    {"upkeep"},
    {"webhooks"},
    {"worker", "api"},
    {"local"},
    {"bench", "gpu_checks"},
    {"cli"},
    {"__main__"},
]
"""The rooms. Each module of the package stands in one."""

INSIDE: dict[str, list[set[str]]] = {
    "settings": [
        {"settings.rules", "settings.sections"},
        {"settings.sources"},
    ],
    "api": [
        {"api.http"},
        {"api.schemas"},
        {"api.waiting", "api.watching"},
        {"api.services"},
        {"api.bulk", "api.result_files", "api.submits"},
        {"api.routes"},
        {"api.replicate"},
        {"api.description", "api.webhook_bodies"},
        {"api.app"},
        {"api.serve"},
    ],
    "store": [
        {"store.keys", "store.scripts", "store.failures", "store.multiplexed", "store.answers"},
        {"store.connection", "store.records", "store.encoding"},
        {"store.changes", "store.soundness"},
        {"store.salvage"},
        {"store.engine"},
        {
            "store.batches",
            "store.condemned",
            "store.inspection",
            "store.installation",
            "store.listing",
            "store.outbox",
            "store.overdue",
            "store.queues",
            "store.submits",
            "store.uploads",
            "store.workers",
        },
        {"store.tasks", "store.leases"},
        {"store.store"},
    ],
    "intake": [
        {"intake.requests", "intake.parse", "intake.inline", "intake.estimates"},
        {"intake.call", "intake.deps", "intake.batch_lines"},
        {"intake.reuse_digest", "intake.uploads", "intake.webhook"},
        {"intake.examine"},
        {"intake.enqueue", "intake.quote", "intake.batch_receive"},
        {"intake.batch_start", "intake.batch_enqueue"},
        {"intake.batch_feeder"},
    ],
    "worker": [
        {"worker.devices", "worker.starvation", "worker.spool", "worker.attempt_clock", "worker.stages"},
        {"worker.threads", "worker.memory", "worker.results"},
        {"worker.batcher"},
        {"worker.pipeline"},
        {"worker.attempt"},
        {"worker.claims"},
        {"worker.running"},
        {"worker.signals"},
        {"worker.host"},
        {"worker.process"},
    ],
}
"""The layers inside a room. A module of it that is not named is a leaf: it imports nothing of its own room."""

VENDORS: dict[str, set[str]] = {
    "aioboto3": {"storage"},
    "aiobotocore": {"storage"},
    "botocore": {"storage"},
    "aiohttp": {"net", "worker/fetch.py", "webhooks", "bench"},
    "yarl": {"net", "worker/fetch.py", "webhooks"},
    "arq": {"worker/host.py"},
    "click": {"cli"},
    "httpx": {"local/demo.py", "client"},
    "multipart": {"api/replicate/files.py"},
    "matplotlib": {"bench/plot.py"},
    "rich": {"local/demo.py", "bench", "cli"},
    "litestar": {"api"},
    "uvicorn": {"api/serve.py"},
    "httptools": {"api/serve.py"},
    "uvloop": {"api/serve.py", "worker/process.py"},
    "numpy": {"models", "worker/batcher", "bench", "gpu_checks/measures"},
    "PIL": {"models/imaging.py"},
    "onnxruntime": {"models/onnxruntime/runtime.py"},
    "opentelemetry": {"telemetry/metrics.py"},
    "pynvml": {"telemetry/nvml.py"},
    "prometheus_client": {"telemetry/exposition.py"},
    "hiredis": {"store/multiplexed.py"},
    "redis": {"store"},
    "standardwebhooks": {"webhooks/signature.py"},
}
"""Vendor -> the files and folders that may import it."""
