"""Which part of the package may import which, and the places of the vendor libraries."""

LAYERS: list[set[str]] = [
    {"errors", "deferred", "rules", "loopback"},
    {"settings", "device"},
    {"heartbeat"},
    {"task", "upload", "urlguard"},
    {"batch", "submission"},
    {"telemetry", "logs", "exposition", "imaging", "storage", "store", "client", "egress"},
    {"links", "orphans", "endings", "watches"},
    {"runners", "maintenance", "webhooks"},
    {"api", "worker"},
    {"supervisor"},
    {"redis_server"},
    {"up"},
    {"demo"},
    {"bench"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. What stands together may not know one another, but a package knows itself."""

VENDORS: dict[str, set[str]] = {
    "aioboto3": {"storage"},
    "aiobotocore": {"storage"},
    "botocore": {"storage"},
    "aiohttp": {"egress.py", "worker/fetch.py", "webhooks", "bench"},
    "yarl": {"egress.py", "worker/fetch.py", "webhooks"},
    "arq": {"worker/host.py"},
    "click": {"cli.py", "commands"},
    "httpx": {"demo.py", "client"},
    "multipart": {"api/replicate_files.py"},
    "matplotlib": {"bench/plot.py"},
    "rich": {"demo.py", "bench", "commands"},
    "litestar": {"api"},
    "uvicorn": {"api/serve.py"},
    "httptools": {"api/serve.py"},
    "uvloop": {"api/serve.py", "worker/process.py"},
    "numpy": {"imaging.py", "runners", "worker/batches.py", "worker/scheduler.py", "bench"},
    "PIL": {"imaging.py"},
    "onnxruntime": {"runners/onnx.py"},
    "opentelemetry": {"telemetry.py"},
    "prometheus_client": {"exposition.py"},
    "hiredis": {"store/wire.py"},
    "redis": {"store"},
    "standardwebhooks": {"webhooks/signature.py"},
}
"""Vendor -> the files and packages that may import it."""
