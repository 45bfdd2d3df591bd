"""Buttons and forms that act.

The script `acts.js` sends them to the API's own routes with the session of the page, asks first where they say so, and
shows what came of it; then the live parts of the page are loaded again.
"""

from typing import Literal

import htpy as h
from msgspec import Struct

from penstock.api.console.viewer import Viewer
from penstock.core.access import Scope

Method = Literal["POST", "PUT", "DELETE"]
Look = Literal["", "primary", "danger", "quiet"]


class Act(Struct, frozen=True, kw_only=True):
    """An act of the API: the link of `Viewer.api`, and the scope that its route needs.

    `done` is shown when it is done; `{name}` in it stands for a member of the answer. With `confirm`, a question is
    asked first, `confirm_text` below it. With `counted`, the route takes `dry_run` and answers `matched` and
    `has_more`: the number is shown before, and the act goes on until all are hit. `then` is the page to go to
    afterwards, with `{name}` as in `done`.
    """

    link: str
    scope: Scope
    method: Method = "POST"
    done: str = "Done"
    confirm: str = ""
    confirm_text: str = ""
    counted: bool = False
    then: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """What `acts.js` reads from the button or the form."""
        said = {
            "data-act": self.link,
            "data-method": self.method,
            "data-done": self.done,
            "data-confirm": self.confirm,
            "data-confirm-text": self.confirm_text,
            "data-counted": "yes" if self.counted else "",
            "data-then": self.then,
        }
        return {name: value for name, value in said.items() if value}


def act_button(viewer: Viewer, label: str, act: Act, *, look: Look = "", title: str = "") -> h.Node:
    """Return a button that acts; None where the viewer's key has not the scope."""
    if not viewer.can(act.scope):
        return None
    return h.button(act.attributes, type="button", class_=f"button {look}".strip(), title=title or None)[label]


def act_form(viewer: Viewer, act: Act, *fields: h.Node, submit: str, look: Look = "primary") -> h.Node:
    """Return a form whose fields are sent as JSON; None where the viewer's key has not the scope.

    A name with dots is a member of a member. `data_type` of a field is `number`, `json`, `list` (of words) or `words`
    (all boxes of that name that are checked); an empty field is left out.
    """
    if not viewer.can(act.scope):
        return None
    return h.form(act.attributes, class_="act-form")[
        fields, h.div(".row-end")[h.button(type="submit", class_=f"button {look}")[submit]]
    ]
