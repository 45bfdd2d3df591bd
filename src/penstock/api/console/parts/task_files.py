"""What went into a task and what came out, shown as what it is: pictures, sound, video, boxes, scores, or JSON."""

from collections.abc import Set
from typing import Any

import htpy as h
import msgspec
from msgspec import UNSET

from penstock.api.console.page.tables import facts
from penstock.api.console.page.words import copy_button, size
from penstock.api.console.parts.scores import boxes_over, scores
from penstock.api.console.reads.tasks import is_here
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.tasks import ResultFileView, ResultView, TaskView
from penstock.core.media_types import BEGINNING_BYTES, media_type
from penstock.core.request import Source
from penstock.core.task import Task

SHOWN_CHARS = 20_000
"""Of JSON on a page; the whole is a link away."""
NOT_SHOWN = ("image/tiff", "image/heic", "image/vnd", "image/jxl")
"""Pictures that browsers do not show."""


def result_of(viewer: Viewer, task: TaskView, record: Task, gone: Set[str]) -> h.Node:
    """Return the result: a picture beside that of the input where both are one, boxes over it, files, scores, JSON.
    `gone` are the files of the input that are not there."""
    result = task.result
    if result is None:
        return None
    before = _picture_of(viewer, record, gone)
    return [
        _picture(viewer, task, result, before),
        scores(result.data) if result.data else None,
        [_file(viewer, task, file) for file in result.files[1 if _is_picture(result) else 0 :]],
        facts(
            [
                ("Size", f"{result.width} × {result.height} px" if result.width else None),
                ("Bytes", size(result.size) if result.size is not None else None),
                ("Type", result.content_type if result.files else None),
                ("What was done", ", ".join(note.replace("_", " ") for note in result.notes)),
            ]
        ),
        _json(result.data) if result.data else None,
        h.p[h.a(".button", href=viewer.api(f"/tasks/{task.task_id}/result"), download=True)["Download"]],
    ]


def inputs_of(viewer: Viewer, task: TaskView, record: Task, gone: Set[str]) -> h.Node:
    """Return the members of the input, each as what it is."""
    return [
        h.div(".member")[h.h3[name], _not_kept(viewer, task) if name in gone else _member(viewer, record, name, source)]
        for name, source in record.request.inputs.items()
    ]


def _not_kept(viewer: Viewer, task: TaskView) -> h.Element:
    equal = task.execution.get("reused_from") if task.reuse == "hit" else None
    if equal is None:
        return h.p(".under")["This file is not kept any more."]
    link = h.a(href=viewer.page(f"/tasks/{equal}"))["an equal task"]
    return h.p(".under")["This file was not stored: the task had the result of ", link, " at once."]


def _member(viewer: Viewer, record: Task, name: str, source: Source) -> h.Node:
    if source.value is not UNSET:
        return _json(source.value)
    if not is_here(source):
        return h.p[h.code[source.url or "–"]]
    link, kind = input_link(viewer, record, name), _kind_of(source)
    if kind.startswith("image/") and not kind.startswith(NOT_SHOWN):
        return h.a(href=link)[h.img(".picture", src=link, alt=f"the input {name}", loading="lazy")]
    return (
        _played(link, kind, source.name or name) or h.p[h.a(href=link, download=True)[source.name or name], " ", kind]
    )


def input_link(viewer: Viewer, record: Task, name: str) -> str:
    """Return the link to a file of the input."""
    return viewer.page(f"/tasks/{record.id}/inputs/{name}")


def _picture(viewer: Viewer, task: TaskView, result: ResultView, before: str | None) -> h.Node:
    if not _is_picture(result):
        return boxes_over(before, result.data) if before and result.data else None
    after = viewer.api(f"/tasks/{task.task_id}/result")
    if before is None or _are_apart(result):
        return h.a(href=after)[h.img(".picture", src=after, alt="the result", loading="lazy")]
    return h.figure(".compare", data_compare=True)[
        h.img(src=after, alt="the result", width=result.width, height=result.height),
        h.img(".before", src=before, alt="the input", width=result.width, height=result.height),
        h.input(
            type="range", min="0", max="100", value="50", aria_label="How much of the input is shown over the result"
        ),
        h.figcaption[h.span["Input"], h.span["Result"]],
    ]


def _is_picture(result: ResultView) -> bool:
    kind = result.content_type
    return bool(result.files) and kind.startswith("image/") and not kind.startswith(NOT_SHOWN)


def _are_apart(result: ResultView) -> bool:
    """Whether the result is no enlargement of the input, as far as its form tells."""
    return not (result.width and result.height)


def _picture_of(viewer: Viewer, record: Task, gone: Set[str]) -> str | None:
    """The link to the one picture of the input; None where it has none here, or several."""
    here = [(name, source) for name, source in record.request.inputs.items() if is_here(source) and name not in gone]
    pictures = [name for name, source in here if _may_be_picture(source)]
    return input_link(viewer, record, pictures[0]) if len(pictures) == 1 else None


def _may_be_picture(source: Source) -> bool:
    return _kind_of(source).startswith("image/") and not _kind_of(source).startswith(NOT_SHOWN)


def _kind_of(source: Source) -> str:
    """The media type as far as the record tells: a file in the storage without one is most likely a picture."""
    if source.data is not None:
        return media_type(source.data[:BEGINNING_BYTES], source.content_type)
    return source.content_type or "image/*"


def _file(viewer: Viewer, task: TaskView, file: ResultFileView) -> h.Element:
    link = viewer.api(f"/tasks/{task.task_id}/result/{file.name}")
    kind = file.content_type
    is_shown = kind.startswith("image/") and not kind.startswith(NOT_SHOWN)
    shown = h.img(".picture", src=link, alt=file.name, loading="lazy") if is_shown else _played(link, kind, file.name)
    return h.div(".member")[
        h.h3[h.a(href=link, download=True)[file.name], " ", h.small[kind, ", ", size(file.size)]], shown
    ]


def _played(link: str, kind: str, name: str) -> h.Node:
    if kind.startswith("audio/"):
        return h.audio(controls=True, preload="metadata", src=link, aria_label=name)
    if kind.startswith("video/"):
        return h.video(".picture", controls=True, preload="metadata", src=link, aria_label=name)
    return None


def _json(value: Any) -> h.Element:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if len(text) > SHOWN_CHARS:
        return h.pre(tabindex="0")[text[:SHOWN_CHARS], " …"]
    return h.div(".with-copy")[h.pre(tabindex="0")[text], copy_button(text, "Copy the JSON")]
