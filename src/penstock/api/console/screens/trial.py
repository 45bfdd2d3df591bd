"""Trying a model: a form made of what the model says of itself, which submits a task and leads to its page."""

from collections.abc import Iterator

import htpy as h
from litestar import Response, get
from litestar.params import FromQuery

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_form
from penstock.api.console.page.fields import choice, drop_field, filter_form, hidden, json_field, text_field
from penstock.api.console.page.panels import heading, panel
from penstock.api.console.page.params import param_field, params_of
from penstock.api.console.reads import operations
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import SUBMIT
from penstock.api.schemas.models import MemberView, ModelView
from penstock.api.services import ServicesDep
from penstock.core.task import PRIORITIES

UNDER = "The task is a task as any other: it waits its turn, is kept as long, and is counted."


@get("/try", opt=SUBMIT)
async def show_trial(request: ApiRequest, services: ServicesDep, model: FromQuery[str] = "") -> Response[str]:
    """Show the form of a model, or of the first."""
    viewer, served = viewer_of(request), (await operations.served(services)).data
    chosen = await operations.described(model or served[0].name, services) if model or served else None
    if chosen is None:
        return page(request, "Try", heading("Try a model"), h.div(".empty")["No model is served."], screen="try")
    names = [(one.name, f"{one.name}: {one.title}") for one in served]
    if model and "@" in model:
        names.append((model, model))
    return page(
        request,
        f"Try {chosen.name}",
        heading("Try a model", under=UNDER),
        filter_form(viewer, "/try", choice("Model", "model", names, model or chosen.name), submit="Show"),
        panel(chosen.title, _form(viewer, chosen, model or chosen.name, str(request.base_url))),
        screen="try",
    )


def _form(viewer: Viewer, model: ModelView, reference: str, base_url: str) -> h.Node:
    act = Act(
        link=viewer.api("/tasks").partition("?")[0],
        scope="submit",
        then=viewer.own_page("/tasks/{task_id}"),
        done="Submitted",
    )
    return act_form(viewer, act, *_fields(model, reference), _copies(base_url), submit="Run it")


def _fields(model: ModelView, reference: str) -> Iterator[h.Node]:
    yield hidden("model", reference)
    for name, member in model.inputs.items():
        yield from _input(name, member)
    yield h.div(".filters-row")[[param_field(param) for param in params_of(model.params)]]
    yield h.details[h.summary["How it runs, and what comes out"], h.div(".filters-row")[list(_options(model))]]


def _input(name: str, member: MemberView) -> Iterator[h.Node]:
    if member.kind not in ("image", "file"):
        yield json_field(f"Input {name}", f"input.{name}", hint=member.description)
        return
    accepted = ",".join(member.media_types) or ("image/*" if member.kind == "image" else "")
    yield text_field(f"Input {name}", f"input.{name}", hint="a URL, or:", type="url", placeholder="https://…")
    yield drop_field(f"File for {name}", f"input.{name}", accept=accepted)


def _options(model: ModelView) -> Iterator[h.Node]:
    yield choice("Priority", "priority", [(str(one), one.capitalize()) for one in PRIORITIES], "high")
    if formats := model.notes.get("formats"):
        yield choice("Format", "output.format", [("", "PNG or as the model says"), *((one, one) for one in formats)])
    yield h.label(".chip-line")[
        h.input(type="checkbox", name="reuse", data_type="no", checked=True),
        h.span["Run it even if an equal task has a result"],
    ]


def _copies(base_url: str) -> h.Element:
    return h.div(".acts")[_copy("curl", "Copy as curl", base_url), _copy("python", "Copy as Python", base_url)]


def _copy(kind: str, words: str, base_url: str) -> h.Element:
    """Return the button with which `requests.js` copies the form as a request."""
    said = {"data-copy-request": kind, "data-url": base_url.rstrip("/")}
    return h.button(said, type="button", class_="button quiet")[words]
