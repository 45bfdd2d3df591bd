"""Fields of forms, each with its label, and the form that filters a list."""

from collections.abc import Iterable, Sequence

import htpy as h

from penstock.api.console.viewer import Viewer


def text_field(label: str, name: str, value: str = "", *, hint: str = "", **attributes: str | bool | int) -> h.Element:
    """Return a line of text with its label."""
    return h.label(".field")[
        h.span[label],
        h.input({key.replace("_", "-"): given for key, given in attributes.items()}, name=name, value=value),
        hint and h.small[hint],
    ]


def json_field(label: str, name: str, value: str = "", *, hint: str = "") -> h.Element:
    """Return a field for JSON, which is sent as what it is."""
    return h.label(".field")[
        h.span[label],
        h.textarea({"data-type": "json"}, name=name, rows="4", spellcheck="false")[value],
        hint and h.small[hint],
    ]


def drop_field(label: str, name: str, *, accept: str) -> h.Element:
    """Return a field for a file, which one may drop on it; `accept` has the media types that are offered."""
    return h.label(".drop")[
        h.span[label, ": choose one, or drop it here"],
        h.input({"data-type": "file"}, type="file", name=name, accept=accept or None),
        h.img(alt="", hidden=True),
        h.small(data_drop_name=True),
    ]


def moment_field(label: str, name: str, value: str = "") -> h.Element:
    """Return a field for a moment in local time, which is sent as RFC 3339."""
    return h.label(".field")[
        h.span[label], h.input({"data-moment": value or True}, type="datetime-local", name=name, step="1")
    ]


def choice(
    label: str, name: str, options: Sequence[tuple[str, str]], value: str = "", *, hint: str = "", data_type: str = ""
) -> h.Element:
    """Return a choice of one of these values, each with its words."""
    return h.label(".field")[
        h.span[label],
        h.select({"data-type": data_type or None}, name=name)[
            [h.option(value=given, selected=given == value)[words] for given, words in options],
        ],
        hint and h.small[hint],
    ]


def hidden(name: str, value: str) -> h.VoidElement:
    """Return a field that is sent and not shown."""
    return h.input(type="hidden", name=name, value=value)


def chips(label: str, name: str, options: Iterable[str], chosen: Sequence[str], *, data_type: str = "") -> h.Element:
    """Return boxes to check, of which any number may be."""
    return h.fieldset(".chips")[
        h.legend(".unseen")[label],
        [
            h.label(".chip")[
                h.input(
                    {"data-type": data_type or None},
                    type="checkbox",
                    name=name,
                    value=option,
                    checked=option in chosen,
                ),
                h.span[option.capitalize()],
            ]
            for option in options
        ],
    ]


def filter_form(
    viewer: Viewer, path: str, *first: h.Node, more: Sequence[h.Node] = (), in_use: int = 0, submit: str = "Filter"
) -> h.Element:
    """Return the form that filters the list at this path of the console. The fields of `more` are folded away unless
    some, `in_use`, are set."""
    return h.form(".filters", action=viewer.page(path).partition("?")[0], method="get", data_filters=True)[
        h.div(".filters-row")[
            first,
            h.div(".filters-end")[
                h.button(type="submit", class_="button primary")[submit],
                h.a(".button.quiet", href=viewer.page(path))["Reset"],
            ],
        ],
        more
        and h.details(open=bool(in_use))[
            h.summary[f"More filters{f' ({in_use})' if in_use else ''}"], h.div(".filters-row")[more]
        ],
    ]
