"""Other releases of this program, run beside the one that is tested: earlier commits out of the history of the
checkout, and a made-up next one. They use the packages of this environment, and models and weights of this checkout."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "src/penstock"

SAME_FORM = "5e11fa124e8d93ad4ea91a98ebc42b83a6f2a525"
"""The first whole release with tasks of version 5. From it on, releases run side by side."""

OLDER_FORM = "0dbbd6da3cb9c4fe3abdd4ed1ab6276afe882a9d"
"""The last one with tasks of version 4, which a start of this one converts."""


Release = Mapping[str, str]
"""The environment in which `python -m penstock` is that of a release."""

THIS: Release = {}


def _release(path: Path) -> Release:
    return {"PYTHONPATH": f"{path / 'src'}:{ROOT}"}


def earlier(commit: str, folder: Path) -> Release:
    """Unpacks the package of an earlier commit. Skips the test where the checkout has no history."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        pytest.skip(f"the history of this checkout does not have {commit[:8]}")
    archive = _git("archive", commit, "--", PACKAGE, f":(exclude){PACKAGE}/weights/*.onnx")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    _link_weights(folder)
    return _release(folder)


_MEMBER = '    added: str = __import__("msgspec").field(default_factory=lambda: "x")\n'
_EXECUTION = "    execution: dict[str, Any] = {}\n"

ADDED: dict[str, tuple[str, str]] = {
    "store/lua/submit.lua": ("'version', version,", "'version', version, 'added', 'by the next',"),
    "store/lua/parts/pace.lua": (
        "  set_field(BOARD, 'ms:' .. model,",
        "  set_field(BOARD, 'added:' .. model, 1)\n  set_field(BOARD, 'ms:' .. model,",
    ),
    "core/task.py": (_EXECUTION, _EXECUTION + _MEMBER),
    "core/request.py": ("    line: Line | None = None\n", "    line: Line | None = None\n" + _MEMBER),
    "store/answers.py": ('    reason: str = ""\n    residence', f'    reason: str = ""\n{_MEMBER}    residence'),
}
"""By file what the next release adds to what is stored: a field of a record, one of the board, and members of JSON."""


def following(folder: Path) -> Release:
    """Makes a next release, which is this one with more in what it stores."""
    package = folder / PACKAGE
    shutil.copytree(ROOT / PACKAGE, package, ignore=shutil.ignore_patterns("*.onnx", "__pycache__"))
    _link_weights(folder)
    for name, (old, new) in ADDED.items():
        text = (package / name).read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        (package / name).write_text(text.replace(old, new))
    return _release(folder)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)


def _link_weights(folder: Path) -> None:
    for file in (ROOT / PACKAGE / "weights").glob("*.onnx"):
        (folder / PACKAGE / "weights" / file.name).symlink_to(file)
