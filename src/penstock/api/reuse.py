"""The digest under which equal tasks of one API key find each other's results."""

import hashlib
from base64 import urlsafe_b64encode

import msgspec

from penstock import __version__
from penstock.api.guards import Caller
from penstock.api.schemas import TaskRequest
from penstock.runners.base import registry, results_digest

DIGEST_BYTES = 16
"""128 bits: nobody but the caller can make two inputs meet, and it would take 2^64 tries."""


def reuse_digest(asked: TaskRequest, sha256: str, caller: Caller) -> str:
    """22 characters over everything that a result depends on: the caller, the model and its files, the parameters with
    their defaults, how an image is written, the sha256 of the input bytes, and the code that runs it all."""
    runner = registry()[asked.model]
    parts = (
        __version__,
        caller.tenant,
        caller.id,
        runner.name,
        results_digest(runner),
        msgspec.convert(asked.params, runner.params),
        None if runner.card.produces == "data" else asked.output,
        sha256,
    )
    whole = hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()
    return urlsafe_b64encode(whole[:DIGEST_BYTES]).rstrip(b"=").decode()
