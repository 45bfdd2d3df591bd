"""The same request once more, as curl and as Python."""

import shlex
from typing import Any

import htpy as h
import msgspec
from msgspec import UNSET

from penstock.api.console.page.words import copy_button
from penstock.api.console.reads.tasks import is_here
from penstock.core.output import OutputOptions
from penstock.core.request import Source
from penstock.core.task import Task

DEFAULTS = msgspec.to_builtins(OutputOptions())


def body_of(record: Task) -> dict[str, Any]:
    """Return what a client sends for the same task, without its input."""
    asked = record.request
    output = {name: value for name, value in msgspec.to_builtins(asked.output).items() if DEFAULTS.get(name) != value}
    version = f"@{asked.version}" if asked.version and "@" in asked.model else ""
    body: dict[str, Any] = {"model": asked.model.partition("@")[0] + version}
    optional = {"params": asked.params, "output": output, "metadata": asked.metadata}
    body |= {name: value for name, value in optional.items() if value}
    return body if record.priority == "normal" else body | {"priority": record.priority.value}


def reproduced(record: Task, base_url: str) -> h.Element:
    """Return both, each with a button that copies it."""
    return h.div[_code("curl", curl(record, base_url)), _code("Python", python(record, base_url))]


def curl(record: Task, base_url: str) -> str:
    """Return the command for a shell. Files of the input are to lie in the directory, by the names of the members."""
    sent = {name: _as_json(name, source) for name, source in record.request.inputs.items()}
    text = msgspec.json.encode(body_of(record) | {"input": sent}).decode()
    quoted = shlex.quote(text)
    for name in _files(record):
        quoted = quoted.replace(f"@{name}@", f"'\"$(base64 -w0 {shlex.quote(name)})\"'")
    url = shlex.quote(f"{base_url.rstrip('/')}/v1/tasks")
    return f'curl -sS {url} \\\n  -H "Authorization: Bearer $PENSTOCK_API_KEY" \\\n  --json {quoted}'


def python(record: Task, base_url: str) -> str:
    """Return the lines for the Python client. Files of the input are to lie in the directory."""
    body = body_of(record)
    given = ", ".join(f"{name!r}: {_as_python(name, source)}" for name, source in record.request.inputs.items())
    options = "".join(f", {name}={value!r}" for name, value in body.items() if name != "model")
    files = "from pathlib import Path\n\n" if _files(record) else ""
    return (
        f"{files}from penstock import Client\n\n"
        f"with Client({base_url.rstrip('/')!r}) as penstock:  # its key: PENSTOCK_API_KEY\n"
        f"    task = penstock.run(model={body['model']!r}, inputs={{{given}}}{options})\n"
        f"    print(task.task_id, task.status)"
    )


def _code(title: str, text: str) -> h.Element:
    return h.details[
        h.summary[title], h.div(".with-copy")[h.pre(tabindex="0")[text], copy_button(text, f"Copy as {title}")]
    ]


def _files(record: Task) -> list[str]:
    return [name for name, source in record.request.inputs.items() if is_here(source)]


def _as_json(name: str, source: Source) -> Any:
    if source.value is not UNSET:
        return source.value
    return f"data:{source.content_type or ''};base64,@{name}@" if is_here(source) else source.url


def _as_python(name: str, source: Source) -> str:
    if source.value is not UNSET:
        return repr(source.value)
    return f"Path({name!r})" if is_here(source) else repr(source.url)
