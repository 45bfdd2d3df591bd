"""What to do about an error, in the words of the command line: the server speaks of HTTP."""

import re

import click

from penstock.cli.terminal import plain
from penstock.client import PenstockApiError
from penstock.client.problems import UNREACHABLE

ADVICE = {
    UNREACHABLE: "start a server here by `penstock up`, or name another one by --url or PENSTOCK_URL",
    "unauthorized": "give a key by --api-key or PENSTOCK_API_KEY, or run this where `penstock up` was started",
    "forbidden": "use another key; `penstock keys create --scopes` makes one",
    "task_not_found": "`penstock ls` lists the tasks",
    "batch_not_found": "`penstock batch ls` lists the batches",
    "upload_not_found": "`penstock uploads put FILE` sends it again",
    "model_not_found": "`penstock models` lists them",
    "worker_not_found": "`penstock workers` lists them",
    "key_not_found": "`penstock keys list` lists them",
    "webhook_not_found": "`penstock webhooks show ID` shows the events",
    "task_not_final": "`penstock cancel ID` first",
    "batch_not_final": "`penstock batch cancel ID` first",
    "result_expired": "submit it again; `penstock submit` does so by itself",
    "not_ready": "`penstock doctor` says what is missing",
    "store_unavailable": "`penstock doctor` says why",
    "storage_unavailable": "`penstock doctor` says why",
}
"""Code of an error -> what ends its line."""

OF_HTTP = re.compile(r"; GET /v1/\w+ lists them")
"""Advice of the server for those who speak HTTP."""

OPTIONS = {"model": "--model", "params": "--param", "output": "--format and its like", "tenant": "--tenant"}
"""Member of a request -> the option that gives it."""


def advised(error: PenstockApiError) -> click.ClickException:
    """Returns an error of the command with what to do at its end, and with the lines of a batch that are wrong."""
    lines = [_told(error)]
    lines += [f"  {plain(finding)}" for finding in error.findings]
    return click.ClickException("\n".join(lines))


def advice_for_all(code: str, model: str) -> str:
    """Returns what to do about an error that every file of a run would meet; empty if that is not known."""
    if code == "invalid_request":
        return f"`penstock models show {model}` says what it takes"
    return ADVICE.get(code, "")


def _told(error: PenstockApiError) -> str:
    said = str(error)
    if advice := ADVICE.get(error.code):
        return f"{OF_HTTP.sub('', said)}; {advice}"
    option = OPTIONS.get((error.param or "").partition(".")[0])
    return f"{said}; see {option}" if option else said
