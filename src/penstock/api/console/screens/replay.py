"""A task once more, with changes: its request as a form, which submits a new task."""

from collections.abc import Set
from typing import Any

import htpy as h
import msgspec
from litestar import Response, get
from litestar.params import FromPath
from msgspec import UNSET

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_form
from penstock.api.console.page.fields import choice, json_field, text_field
from penstock.api.console.page.panels import heading, panel
from penstock.api.console.parts.reproduce import body_of
from penstock.api.console.parts.task_files import input_link
from penstock.api.console.reads import tasks
from penstock.api.console.reads.tasks import is_here
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ANY_TENANT, SUBMIT
from penstock.api.services import ServicesDep
from penstock.core.request import Source
from penstock.core.task import PRIORITIES, Task


@get("/tasks/{task_id:str}/replay", opt=SUBMIT | OF_ANY_TENANT)
async def show_replay(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[str]:
    """Show the form. The task of another tenant is submitted by the viewer, in the viewer's own tenant."""
    viewer, record = viewer_of(request), await tasks.record(task_id, request, services)
    names = sorted({*services.models.references, str(body_of(record)["model"])})
    act = Act(
        link=viewer.api("/tasks").partition("?")[0],
        scope="submit",
        then=viewer.own_page("/tasks/{task_id}"),
        done="Submitted",
    )
    gone = await tasks.gone(record, services)
    form = act_form(viewer, act, *_fields(viewer, record, names, gone), submit="Submit")
    return page(
        request,
        "Replay",
        heading("Replay with changes", under=["of ", h.a(href=viewer.page(f"/tasks/{task_id}"))[h.code[task_id]]]),
        panel("", form),
        screen="tasks",
    )


def _fields(viewer: Viewer, record: Task, models: list[str], gone: Set[str]) -> list[h.Node]:
    body = body_of(record)
    return [
        choice("Model", "model", [(name, name) for name in models], str(body["model"])),
        *(
            _missing(name) if name in gone else _input(viewer, record, name, source)
            for name, source in record.request.inputs.items()
        ),
        json_field("Params", "params", _json(body.get("params"))),
        json_field("Output", "output", _json(body.get("output"))),
        json_field("Metadata", "metadata", _json(body.get("metadata"))),
        choice("Priority", "priority", [(str(one), str(one)) for one in PRIORITIES], str(record.priority)),
        h.label(".chip-line")[
            h.input(type="checkbox", name="reuse", data_type="no", checked=True),
            h.span["Run it even if an equal task has a result"],
        ],
    ]


def _input(viewer: Viewer, record: Task, name: str, source: Source) -> h.Element:
    if source.value is not UNSET:
        return json_field(f"Input {name}", f"input.{name}", _json(source.value))
    if not is_here(source):
        return text_field(f"Input {name}", f"input.{name}", source.url or "", hint="a URL")
    link = input_link(viewer, record, name)
    return h.label(".field")[
        h.span[f"Input {name}"],
        h.input({"data-type": "file", "data-link": link}, type="file", name=f"input.{name}"),
        h.small["Without a file, that of the task is sent again: ", h.a(href=link)["look at it"], "."],
    ]


def _missing(name: str) -> h.Element:
    return h.label(".field")[
        h.span[f"Input {name}"],
        h.input({"data-type": "file"}, type="file", name=f"input.{name}", required=True),
        h.small["The file of the task is not there: choose it again."],
    ]


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
