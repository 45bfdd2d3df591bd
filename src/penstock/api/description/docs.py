"""/docs: Swagger UI from an installed package, so that the page works without internet."""

from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.params import FromPath

from penstock.api.description.site.frame import prefix_of
from penstock.errors import NotFound

JAVASCRIPT, CSS = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
ASSETS = {"swagger-ui-bundle.js": JAVASCRIPT, "swagger-ui.css": CSS, "favicon-32x32.png": "image/png"}
"""The files of the package that are served -> their media types."""
OWN_ASSETS = {"start.js": JAVASCRIPT, "theme.css": CSS}
"""Those of ours, which stand beside this module."""

# Swagger UI writes style attributes and has its icons as data: URIs; scripts come from this server only.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_OWN_DIRECTORY = Path(__file__).parent / "assets"
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Penstock API</title>
  <link rel="stylesheet" href="{prefix}/docs/assets/swagger-ui.css">
  <link rel="stylesheet" href="{prefix}/docs/theme.css">
  <link rel="icon" type="image/png" href="{prefix}/docs/assets/favicon-32x32.png">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="{prefix}/docs/assets/swagger-ui-bundle.js"></script>
  <script src="{prefix}/docs/start.js" data-prefix="{prefix}"></script>
</body>
</html>
"""


@get("/", sync_to_thread=False)
def page(request: Request[Any, Any, Any]) -> Response[str]:
    """Serve the page that shows the API."""
    text = _PAGE.replace("{prefix}", escape(prefix_of(request)))
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@get("/{name:str}", sync_to_thread=True)
def own_asset(name: FromPath[str]) -> Response[Any]:
    """Serve the script that starts Swagger UI, since the policy forbids a script inside the page, or the theme. Raises
    NotFound."""
    if name not in OWN_ASSETS:
        raise NotFound("there is no such asset")
    return Response((_OWN_DIRECTORY / name).read_bytes(), media_type=OWN_ASSETS[name])


@get("/assets/{name:str}", sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[Any]:
    """Serve a file of the package. Raises NotFound."""
    if name not in ASSETS:
        raise NotFound("there is no such asset")
    headers = {"Cache-Control": "public, max-age=86400"}
    return Response((_directory() / name).read_bytes(), media_type=ASSETS[name], headers=headers)


router = Router("/docs", route_handlers=[page, own_asset, asset], include_in_schema=False)


def _directory() -> Path:
    # Importing the package would import the web frameworks that it supports.
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("the package swagger-ui-py is not installed; the API itself is described at /schema")
    return Path(spec.submodule_search_locations[0]) / "static"
