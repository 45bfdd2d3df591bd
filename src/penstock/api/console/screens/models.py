"""The models: their versions, where these are loaded, what a task may say to them, and the acts of operators."""

from collections.abc import Iterator

import htpy as h
from litestar import Response, get
from litestar.params import FromPath

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button, act_form
from penstock.api.console.page.fields import hidden
from penstock.api.console.page.panels import heading, live, notice, panel
from penstock.api.console.page.params import Schema, params_of, text_of
from penstock.api.console.page.tables import Column, TableRow, facts, table
from penstock.api.console.page.words import badge, duration, number, prose, size, when
from penstock.api.console.reads import operations
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import READ
from penstock.api.schemas.models import FaultyModelView, ModelView, ResidenceView, VersionView
from penstock.api.services import ServicesDep

COLUMNS = ("Model", "What it does", "Default version", Column("Versions", True), "State", "Gives")
VERSION_COLUMNS = ("Version", "State", "Where", "Published", "Digest", "")
PARAM_COLUMNS = ("Name", "Kind", "Default", "What it does")
INPUT_COLUMNS = ("Name", "Kind", "Media types", "What it is")


@get("/models", opt=READ)
async def show_models(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show the models by name, and what no worker can serve."""
    viewer = viewer_of(request)
    served = await operations.served(services)
    rows = [_row(model, viewer) for model in served.data]
    empty = "No worker has said yet which models it serves."
    shown = [*map(_faulty, served.faulty), table(COLUMNS, rows, caption="Models", empty=empty)]
    return page(request, "Models", heading("Models"), live("models", viewer.page("/models"), shown), screen="models")


@get("/models/{name:str}", opt=READ)
async def show_model(request: ApiRequest, services: ServicesDep, name: FromPath[str]) -> Response[str]:
    """Show one model; `name@version` is that version."""
    viewer = viewer_of(request)
    model = await operations.described(name, services)
    trial = h.a(".button.primary", href=viewer.page("/try", model=name))["Try it"] if viewer.can("submit") else None
    versions = panel(
        "Versions",
        table(VERSION_COLUMNS, _versions(model, viewer, operations.is_in_code(name, services)), caption="Versions"),
    )
    return page(
        request,
        model.name,
        heading(model.name, trial, under=model.title),
        live("versions", viewer.page(f"/models/{name}"), versions),
        h.div(".columns")[
            panel("Input", table(INPUT_COLUMNS, _inputs(model), caption="Members of the input")),
            panel("About", facts(_facts(model))),
        ],
        panel("Params", table(PARAM_COLUMNS, _params(model.params), caption="Params", empty="It takes none.")),
        screen="models",
    )


def _row(model: ModelView, viewer: Viewer) -> TableRow:
    link = viewer.page(f"/models/{model.name}")
    cells = (h.a(href=link)[model.name], model.title, model.version, number(len(model.versions)))
    return TableRow([*cells, _state(model.state), model.produces], link=link, id=model.name)


def _faulty(model: FaultyModelView) -> h.Element:
    name = f"{model.name}@{model.version}" if model.version else model.name
    return notice("bad", f"{name} cannot be served by {model.worker}", prose(model.reason))


def _state(state: str | None) -> h.Node:
    return badge(state) if state else badge("no worker", "warn")


def _versions(model: ModelView, viewer: Viewer, is_in_code: bool) -> Iterator[TableRow]:
    for version in reversed(model.versions):
        default = badge("default", "info") if version.is_default else None
        yield TableRow(
            [
                [version.version, " ", default],
                _state(version.state),
                [_where(one) for one in version.workers] or "–",
                when(version.published_at),
                h.code(title=version.digest)[version.digest[-12:]],
                None if is_in_code else h.div(".acts")[_acts(model, version, viewer)],
            ],
            id=f"{model.name} {version.version}",
        )


def _where(residence: ResidenceView) -> h.Element:
    said = f"{residence.device}: {residence.state}"
    memory = f", {size(residence.memory_bytes)}" if residence.memory_bytes else ""
    return h.div(title=residence.worker)[said, memory, residence.reason and h.div(".under")[residence.reason]]


def _acts(model: ModelView, version: VersionView, viewer: Viewer) -> Iterator[h.Node]:
    name = f"{model.name}@{version.version}"
    if not version.is_default:
        default = Act(
            link=viewer.api(f"/models/{model.name}/default"),
            method="PUT",
            scope="operate",
            confirm=f"Make {version.version} the default of {model.name}?",
            confirm_text="Tasks that name no version run on it from now on.",
            done=f"{model.name} means {version.version} now",
        )
        yield act_form(viewer, default, hidden("version", version.version), submit="Make default", look="")
    for act, done in (("load", "It is being loaded"), ("unload", "It is unloaded when its tasks have ended")):
        told = Act(link=viewer.api(f"/models/{name}/{act}"), scope="operate", done=done)
        yield act_button(viewer, act.capitalize(), told, look="quiet")


def _inputs(model: ModelView) -> Iterator[TableRow]:
    for name, member in model.inputs.items():
        needed = "" if member.required else " (may be left out)"
        kinds = ", ".join(one.rpartition("/")[2] for one in member.media_types)
        yield TableRow([h.code[name], f"{member.kind}{needed}", kinds or "any", prose(member.description)])


def _params(schema: Schema) -> Iterator[TableRow]:
    for param in params_of(schema):
        default = "–" if param.default in (None, "") else h.code[text_of(param.default)]
        yield TableRow([h.code[param.name], param.kind, default, prose(param.description)])


def _facts(model: ModelView) -> Iterator[tuple[str, h.Node]]:
    yield "Gives", model.produces
    yield "Score", f"{model.score_range.minimum:g} to {model.score_range.maximum:g}" if model.score_range else ""
    yield "Largest input", f"{size(model.limits.input_bytes)}, {model.limits.input_megapixels} megapixels"
    yield "Longest attempt", duration(model.limits.timeout_s)
    yield "Licence", model.licence
    yield "Source", model.source
    yield "Guessed", "; ".join(f"{name}: {why}" for name, why in model.guessed.items())
