"""The Python client: `Client` for scripts, `AsyncClient` for asyncio, over the same HTTP API that everybody uses."""

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Client
from penstock.client.filters import Filter
from penstock.client.inputs import Inputs, Source
from penstock.client.problems import Mapped, PenstockApiError, failure_of
from penstock.client.requests import Options, Output, Shared
from penstock.client.views import Batch, Counts, Hit, Line, Model, Queue, Result, Stats, Submitted, Task, Upload, Worker

__all__ = [
    "AsyncClient",
    "Batch",
    "Client",
    "Counts",
    "Filter",
    "Hit",
    "Inputs",
    "Line",
    "Mapped",
    "Model",
    "Options",
    "Output",
    "PenstockApiError",
    "Queue",
    "Result",
    "Shared",
    "Source",
    "Stats",
    "Submitted",
    "Task",
    "Upload",
    "Worker",
    "failure_of",
]
