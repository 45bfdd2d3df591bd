"""/: what this server is, as JSON for programs and as a page for browsers."""

from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Response, get

from penstock import __version__
from penstock.api.description.site.frame import HTML, heading, listing, page, prefix_of, prose
from penstock.api.http.auth import ApiRequest
from penstock.api.http.contents import JSON, describe
from penstock.api.schemas.operators import DiscoveryView
from penstock.api.services import ServicesDep
from penstock.settings import Settings

VARY = {"Vary": "Accept"}

_LEAD = "A server for long inference jobs: post a task, get an id, collect the result."


@get(
    "/",
    operation_id="discover",
    tags=["health"],
    summary="What this server is",
    opt=describe(answers={200: {JSON: DiscoveryView}}),  # the page is not for clients that are made of the document
    sync_to_thread=False,
)
def discover(request: ApiRequest, services: ServicesDep) -> Response[Any]:
    """Answers the version and the paths of the server; those that its settings turn off are left out. A browser gets a
    page that leads there."""
    if request.accept.best_match([JSON, HTML], default=JSON) == HTML:
        return page("Penstock", "\n".join(_body(services.settings, request)), **VARY)
    return Response(_discovery(services.settings), headers=VARY)


def _discovery(settings: Settings) -> DiscoveryView:
    api = settings.api
    return DiscoveryView(
        name="penstock",
        version=__version__,
        docs="/docs" if api.docs == "on" else None,
        openapi="/schema/openapi.json" if api.docs == "on" else None,
        links={
            "tasks": "/v1/tasks",
            "models": "/v1/models",
            "workers": "/v1/workers",
            "queues": "/v1/queues",
            "stats": "/v1/stats",
            "live": "/livez",
            "ready": "/readyz",
            "started": "/startupz",
            "errors": "/errors",
        }
        | ({"metrics": "/metrics"} if api.metrics == "on" else {})
        | ({"console": "/console"} if settings.console.enabled else {}),
    )


def _body(settings: Settings, request: ApiRequest) -> Iterator[str]:
    yield heading("Penstock", __version__)
    yield f'<p class="quiet">{_LEAD}</p>'
    yield '<nav class="cards" aria-label="Parts of this server">'
    for path, name, about in _parts(settings):
        yield f'<a href="{escape(prefix_of(request))}{path}"><b>{name}</b><span>{about}</span></a>'
    yield "</nav>"
    url = str(request.base_url).rstrip("/")
    yield "<h2>A first request</h2>"
    yield listing(f'curl {url}/v1/models -H "Authorization: Bearer $KEY"', "A first request")
    yield f'<p class="quiet">{prose("Programs get this page as JSON: send `Accept: application/json`, or none.")}</p>'


def _parts(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """The path, the name and the use of each part that this server has."""
    if settings.console.enabled:
        yield "/console", "Console", "Tasks, queues, workers and models, seen and steered"
    if settings.api.docs == "on":
        yield "/docs", "API", "Every request, described, and ready to be tried"
        yield "/schema/openapi.json", "OpenAPI", "The same for programs that make clients"
    yield "/errors", "Errors", "What each code means, and whether to try again"
    yield "/readyz", "State", "Whether Redis and the storage answer now"
