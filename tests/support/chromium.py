"""Pages in a real browser: the Chromium of the machine, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
WITHIN_MS = 60_000


@contextmanager
def running() -> Iterator["Browser"]:
    """Starts a browser without a window; skips the test where there is none, or no Playwright."""
    driver = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("no Chromium here")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS[1:])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: "Browser", **options: Any) -> Iterator[tuple["Page", list[str]]]:
    """Opens an empty page in a profile of its own; the list gets what its console says and its scripts fail with."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page, complaints
    finally:
        context.close()


def faults(page: "Page", context: str | None = None, **options: Any) -> list[str]:
    """Returns the rules of axe that a page breaks, or the part of it that a selector names, each with its first
    place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, context, {"resultTypes": ["violations"], **options}).response["violations"]
    return [f"{one['id']} ({one['impact']}, {len(one['nodes'])}): {one['nodes'][0]['html'][:150]}" for one in found]
