"""/docs: Swagger UI from an installed package, so that the page works without internet."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.params import FromPath

from penstock.errors import NotFound

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
"""The files of the package that are served -> their media types."""

# Swagger UI writes style attributes and has its icons as data: URIs; scripts come from this server only.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Penstock API</title>
  <link rel="stylesheet" href="{prefix}/docs/assets/swagger-ui.css">
  <link rel="icon" type="image/png" href="{prefix}/docs/assets/favicon-32x32.png">
</head>
<body style="margin: 0">
  <div id="swagger-ui"></div>
  <script src="{prefix}/docs/assets/swagger-ui-bundle.js"></script>
  <script src="{prefix}/docs/start.js"></script>
</body>
</html>
"""

_START = """\
localStorage.removeItem("authorized");  // where earlier versions of this page have left an API key
SwaggerUIBundle({
  url: "{prefix}/schema/openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null,
  tryItOutEnabled: true,
  persistAuthorization: false,
});
"""


@get("/", sync_to_thread=False)
def page(request: Request[Any, Any, Any]) -> Response[str]:
    """Serve the page that shows the API."""
    text = _PAGE.replace("{prefix}", _prefix(request))
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@get("/start.js", sync_to_thread=False)
def start(request: Request[Any, Any, Any]) -> Response[str]:
    """Serve the script that starts Swagger UI; the policy forbids a script inside the page."""
    return Response(_START.replace("{prefix}", _prefix(request)), media_type="text/javascript; charset=utf-8")


@get("/assets/{name:str}", sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[Any]:
    """Serve a file of the package. Raises NotFound."""
    if name not in ASSETS:
        raise NotFound("there is no such asset")
    headers = {"Cache-Control": "public, max-age=86400"}
    return Response((_directory() / name).read_bytes(), media_type=ASSETS[name], headers=headers)


router = Router("/docs", route_handlers=[page, start, asset], include_in_schema=False)


def _prefix(request: Request[Any, Any, Any]) -> str:
    """The path of `api.public_url`, which a proxy removes before it passes a request on."""
    return request.base_url.path.rstrip("/")


def _directory() -> Path:
    # Importing the package would import the web frameworks that it supports.
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the package swagger-ui-py is not installed; the API itself is described at /schema")
    return Path(spec.submodule_search_locations[0]) / "static"
