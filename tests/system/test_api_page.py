"""docs/api.md names every endpoint, and what it shows works."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import up

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()


def test_the_page_has_every_endpoint() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]

    shown = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)

    assert sorted(shown) == sorted(f"{method.upper()} {path}" for path, item in paths.items() for method in item)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_every_command_of_the_page_works_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))

    with up(tmp_path / "data") as system:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=os.environ
            | {"URL": system.url, "KEY": system.api_key, "WEBHOOK": "https://told.invalid", "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert json.loads((tmp_path / "result").read_text()).keys() == {"score", "distribution"}
