"""The interactive docs in a real browser: rendered from our own assets, with nothing asked of anybody else."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.settings import Settings
from tests.support import api_server

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_docs_page_shows_every_operation(settings: Settings, tmp_path: Path) -> None:
    with api_server.in_thread(settings) as url:
        command = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom"]
        page = subprocess.run([*command, f"{url}/docs"], capture_output=True, text=True, timeout=90, check=True).stdout

    shown = set(re.findall(r'id="operations-(\w+-\w+)"', page))
    assert {"tasks-submitTask", "tasks-getTask", "tasks-cancelTask", "models-listModels", "health-readyz"} <= shown
    assert "Failed to load" not in page
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//(?!127\.0\.0\.1)', page)
