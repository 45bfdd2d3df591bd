"""Panels: parts of a page with a heading, of which a live one is loaded again by itself."""

import htpy as h

from penstock.api.console.viewer import Viewer
from penstock.api.http.scopes import ALL_TENANTS


def heading(title: h.Node, *acts: h.Node, under: h.Node = None) -> h.Element:
    """Return the heading of a page, with its acts at the right."""
    return h.div(".heading")[h.div[h.h1[title], under and h.p(".under")[under]], h.div(".acts")[acts]]


def panel(title: h.Node, *content: h.Node, acts: h.Node = None, name: str = "") -> h.Element:
    """Return a part of a page with a heading of its own."""
    return h.section({"id": name or None}, class_="panel")[
        (title or acts) and h.div(".panel-head")[h.h2[title], acts and h.div(".acts")[acts]], content
    ]


def live(name: str, link: str, *content: h.Node, every_s: int = 5, events: str = "") -> h.Element:
    """Return a part that is replaced by the part of the same name (its id) of the page at `link`: every few seconds
    while the page is looked at, after each act, and at each of the server-sent `events`, such as `sse:status`."""
    triggers = ", ".join(filter(None, ("refresh", "acted from:body", events)))
    return h.div(
        {
            "id": name,
            "hx-get": link,
            "hx-select": f"#{name}",
            "hx-target": "this",
            "hx-swap": "outerHTML",
            "hx-trigger": triggers,
            "data-every": str(every_s) if every_s else None,
        },
        class_="live",
    )[content]


def notice(tone: str, title: h.Node, *content: h.Node) -> h.Element:
    """Return a box that stands out: its tone is `bad`, `warn`, `good` or `info`."""
    return h.div(class_=f"notice tone-{tone}")[h.div[h.strong[title], h.div[content] if content else None]]


def tile(name: str, value: h.Node, under: h.Node = None, *, link: str = "") -> h.Element:
    """Return a figure with its name, which may lead to what it counts."""
    content = [h.div(".tile-name")[name], h.div(".tile-value")[value], under and h.div(".tile-name")[under]]
    return h.a(".tile", href=link)[content] if link else h.div(".tile")[content]


def all_tenants(viewer: Viewer, path: str) -> h.Node:
    """Return the link from a page about one tenant to that about all, or back; None where the viewer's key may not."""
    if viewer.caller is None or not viewer.can("operate"):
        return None
    if viewer.caller.tenant == ALL_TENANTS:
        return h.a(".button", href=viewer.own_page(path))["Own tenant"]
    return h.a(".button", href=viewer.page(path, tenant=ALL_TENANTS))["All tenants"]


def bar(ratio: float, label: str) -> h.Element:
    """Return a bar that is filled to this ratio of 0 to 1."""
    return h.progress(value=f"{max(0.0, min(1.0, ratio)):.3f}", max="1", aria_label=label)[f"{ratio:.0%}"]


def pages(viewer: Viewer, path: str, query: dict[str, object], next_cursor: str | None) -> h.Node:
    """Return the links from a page of a list to the first one and to the next."""
    is_first = not query.get("cursor")
    if is_first and next_cursor is None:
        return None
    first = {name: value for name, value in query.items() if name != "cursor"}
    return h.nav(".pages", aria_label="Pages of the list")[
        not is_first and h.a(".button", href=viewer.page(path, **first))["Newest"],
        next_cursor and h.a(".button", href=viewer.page(path, **first, cursor=next_cursor), rel="next")["Older"],
    ]
