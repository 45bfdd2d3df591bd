"""The Python client: `Client` for scripts, `AsyncClient` for asyncio, over the same HTTP API that everybody uses."""

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Client
from penstock.client.filters import Filter
from penstock.client.inputs import Inputs, Source
from penstock.client.key_views import AuditEntry, Key, NewKey, Tenant, TenantQuotas
from penstock.client.model_views import Example, FaultyModel, Member, Model, ModelOnWorker, Version
from penstock.client.operator_views import Backlog, Queue, Stats, Worker
from penstock.client.problems import Mapped, PenstockApiError, failure_of
from penstock.client.record_views import Explanation, Quote, Readiness, ServerSettings, StoredUpload
from penstock.client.requests import BatchOptions, Options, Output, Shared
from penstock.client.usage_views import TenantUsage, UsageReport
from penstock.client.views import Batch, Counts, Hit, Line, Result, ResultFile, Submitted, Task, Upload

__all__ = [
    "AsyncClient",
    "AuditEntry",
    "Backlog",
    "Batch",
    "BatchOptions",
    "Client",
    "Counts",
    "Example",
    "Explanation",
    "FaultyModel",
    "Filter",
    "Hit",
    "Inputs",
    "Key",
    "Line",
    "Mapped",
    "Member",
    "Model",
    "ModelOnWorker",
    "NewKey",
    "Options",
    "Output",
    "PenstockApiError",
    "Queue",
    "Quote",
    "Readiness",
    "Result",
    "ResultFile",
    "ServerSettings",
    "Shared",
    "Source",
    "Stats",
    "StoredUpload",
    "Submitted",
    "Task",
    "Tenant",
    "TenantQuotas",
    "TenantUsage",
    "Upload",
    "UsageReport",
    "Version",
    "Worker",
    "failure_of",
]
