"""The frame of a page: its head, the bar at its top, the navigation, and the dialogs that all screens share."""

from collections.abc import Sequence

import htpy as h

from penstock import __version__
from penstock.api.console.assets import path_of
from penstock.api.console.page.icons import icon
from penstock.api.console.viewer import Screen, Viewer

HTMX = '{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"historyEnabled":false}'
"""The policy of the pages forbids what is turned off here."""

STYLE = "console.css"
SCRIPTS = ("vendor/htmx.min.js", "vendor/sse.min.js")
SHORTCUTS = (
    ("/", "find a task"),
    ("j k", "next and previous row"),
    ("Enter", "open the row"),
    ("x", "select the row"),
    ("g and a letter", "go to a screen"),
    ("t", "change light and dark"),
    ("?", "this list"),
    ("Esc", "close"),
)


def document(
    viewer: Viewer,
    title: str,
    *content: h.Node,
    places: tuple[Screen, ...],
    screen: str = "",
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> h.Element:
    """Return a whole page. `screen` is the name of the place that it belongs to."""
    theme = {} if viewer.theme == "auto" else {"data-theme": viewer.theme}
    return h.html(theme, lang="en")[
        _head(viewer, title, (*SCRIPTS, *scripts), (*styles, STYLE)),
        h.body({"data-act-token": viewer.act_token, "data-console": f"{viewer.prefix}/console/"})[
            h.a(".skip", href="#main")["Skip to the content"],
            _bar(viewer),
            h.div(".frame")[
                _navigation(viewer, places, screen) if viewer.caller else None,
                h.main("#main", tabindex="-1")[content],
            ],
            h.div("#messages", role="status", aria_live="polite"),
            _confirmation(),
            _shortcuts(places) if viewer.caller else None,
        ],
    ]


def _head(viewer: Viewer, title: str, scripts: Sequence[str], styles: Sequence[str]) -> h.Element:
    return h.head[
        h.meta(charset="utf-8"),
        h.meta(name="viewport", content="width=device-width, initial-scale=1"),
        h.meta(name="color-scheme", content="light dark" if viewer.theme == "auto" else viewer.theme),
        h.meta(name="htmx-config", content=HTMX),
        h.title[f"{title} · Penstock"],
        h.link(rel="icon", type="image/svg+xml", href=_asset(viewer, "mark.svg")),
        [h.link(rel="stylesheet", href=_asset(viewer, name)) for name in styles],
        [h.script(src=_asset(viewer, name), defer=True) for name in scripts],
        h.script(src=_asset(viewer, "console.js"), type="module"),
    ]


def _asset(viewer: Viewer, name: str) -> str:
    return f"{viewer.prefix}/console{path_of(name)}"


def _bar(viewer: Viewer) -> h.Element:
    return h.header(".bar")[
        h.a(".brand", href=viewer.page("/"), aria_label="Penstock, overview")[
            h.img(src=_asset(viewer, "mark.svg"), alt="", width=22, height=22), h.span["Penstock"]
        ],
        _find(viewer) if viewer.caller else None,
        h.div(".bar-end")[
            h.button(
                ".icon-button", type="button", data_theme_switch=True, aria_label="Change light and dark", title="Theme"
            )[icon("theme")],
            _whoami(viewer),
        ],
    ]


def _find(viewer: Viewer) -> h.Element:
    return h.form(".find", action=viewer.page("/find").partition("?")[0], role="search")[
        icon("find"),
        h.label(".unseen", for_="find")["Find a task by its id or the beginning of it"],
        h.input(
            "#find",
            type="search",
            name="id",
            placeholder="Find a task by its id",
            autocomplete="off",
            spellcheck="false",
        ),
        h.kbd(aria_hidden="true")["/"],
    ]


def _whoami(viewer: Viewer) -> h.Node:
    caller = viewer.caller
    if caller is None:
        return None
    home = caller.home or caller.tenant
    return [
        h.span(".who", title=f"tenant {home}, scopes {', '.join(sorted(caller.scopes))}")[
            h.span(".who-name")[caller.id], h.span(".role")[viewer.role]
        ],
        h.button(
            ".icon-button",
            type="button",
            data_act=f"{viewer.prefix}/console/logout",
            data_then=f"{viewer.prefix}/console/login",
            aria_label="Log out",
            title="Log out",
        )[icon("leave")],
    ]


def _navigation(viewer: Viewer, places: tuple[Screen, ...], screen: str) -> h.Element:
    return h.nav(".places", aria_label="Screens")[
        h.ul[
            [
                h.li[
                    h.a(
                        href=viewer.page(place.path),
                        data_letter=place.letter,
                        aria_current="page" if place.name == screen else None,
                    )[icon(place.name), h.span[place.title]]
                ]
                for place in places
                if viewer.can(place.scope)
            ]
        ],
        h.p(".version")[f"Penstock {__version__}"],
    ]


def _confirmation() -> h.Element:
    return h.dialog("#confirm", aria_labelledby="confirm-title")[
        h.h2("#confirm-title"),
        h.p("#confirm-count"),
        h.p("#confirm-text"),
        h.div(".row-end")[
            h.button("#confirm-no", type="button", class_="button")["Go back"],
            h.button("#confirm-yes", type="button", class_="button primary")["Confirm"],
        ],
    ]


def _shortcuts(places: tuple[Screen, ...]) -> h.Element:
    return h.dialog("#shortcuts", aria_labelledby="shortcuts-title")[
        h.h2("#shortcuts-title")["Keyboard"],
        h.dl(".keys")[
            [h.div[h.dt[_keys(keys)], h.dd[meaning]] for keys, meaning in SHORTCUTS],
            [h.div[h.dt[h.kbd["g"], h.kbd[place.letter]], h.dd[place.title]] for place in places],
        ],
        h.div(".row-end")[h.button(type="button", class_="button", data_close=True)["Close"]],
    ]


def _keys(keys: str) -> list[h.Element]:
    return [h.kbd[key] for key in keys.split()] if len(keys) < 6 else [h.kbd[keys]]
