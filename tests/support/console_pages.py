"""The console in a real browser: a page that is logged in, and what is wrong with a page for people."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESK, PHONE = (1280, 860), (390, 844)
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")

# The rules of axe-core are those of WCAG: contrast, names of fields and buttons, order of headings, roles.
_RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .map(({ id, impact, nodes }) => ({ id, impact, where: nodes.slice(0, 3).map((node) => node.html.slice(0, 160)) }))"""


@contextmanager
def logged_in(
    browser: "Browser", url: str, key: str, *, size: tuple[int, int] = DESK, theme: str = "light"
) -> Iterator[tuple["Page", list[str]]]:
    """Opens the overview after a login; the list gets what the browser complains of."""
    viewport = {"width": size[0], "height": size[1]}
    with chromium.opened(browser, viewport=viewport, color_scheme=theme) as (page, complaints):
        page.goto(f"{url}/console")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Overview").wait_for()
        page.wait_for_load_state()  # its scripts run before the end of that
        yield page, complaints


def faults_of(page: "Page") -> list[Any]:
    """Returns what axe-core calls serious, and `wide` for a page that is wider than the window."""
    page.evaluate(_axe())
    found = [fault for fault in page.evaluate(_RUN) if fault["impact"] in SERIOUS]
    is_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return found + (["wide"] if is_wide else [])


@cache
def _axe() -> str:
    """The script of axe-core, which the extra `browser` brings; the test is skipped without it."""
    package = find_spec("axe_playwright_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no axe-core here: install the extra `browser`")
    return (Path(package.submodule_search_locations[0]) / "axe.min.js").read_text()
