"""The house keeps its order: imports only go down, and each vendor library is used in its own place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "penstock"

LAYERS = [
    {"errors", "lazy_import", "rules"},
    {"settings"},
    {"core"},
    {"net"},
    {"telemetry"},
    {"storage", "client"},
    {"store"},
    {"weights"},
    {"models"},
    {"runners"},
    {"intake"},
    {"upkeep"},
    {"webhooks"},
    {"worker", "api"},
    {"local"},
    {"bench"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. What stands together may not know one another, but a package knows itself."""

ANYWHERE = {"msgspec", "loguru", "penstock"}

VENDORS: dict[str, set[str]] = {
    "aioboto3": {"storage"},
    "aiobotocore": {"storage"},
    "botocore": {"storage"},
    "aiohttp": {"net", "worker/fetch.py", "webhooks", "bench"},
    "yarl": {"net", "worker/fetch.py", "webhooks"},
    "arq": {"worker/host.py"},
    "click": {"cli"},
    "httpx": {"local/demo.py", "client"},
    "multipart": {"api/replicate/files.py"},
    "matplotlib": {"bench/plot.py"},
    "rich": {"local/demo.py", "bench", "cli"},
    "litestar": {"api"},
    "uvicorn": {"api/serve.py"},
    "httptools": {"api/serve.py"},
    "uvloop": {"api/serve.py", "worker/process.py"},
    "numpy": {"models", "worker/batcher", "bench"},
    "PIL": {"models/imaging.py"},
    "onnxruntime": {"models/onnxruntime/session.py"},
    "opentelemetry": {"telemetry/metrics.py"},
    "prometheus_client": {"telemetry/exposition.py"},
    "hiredis": {"store/wire.py"},
    "redis": {"store"},
    "standardwebhooks": {"webhooks/signature.py"},
}
"""Vendor -> the files and packages that may import it."""

FILES = sorted(p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).as_posix() != "__init__.py")


def module_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer_of(module: str) -> int:
    return next((i for i, layer in enumerate(LAYERS) if module in layer), -1)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "penstock":
                yield from ((node.lineno, f"penstock.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_go_down(path: Path) -> None:
    own = module_of(path)
    assert layer_of(own) >= 0, f"{own} has no layer: add it to LAYERS"

    for line, name in imports_of(path):
        if not name.startswith("penstock."):
            continue
        other = name.split(".")[1]
        if other == own or other == "__version__":
            continue
        if own == "intake" and other == "api":
            continue
        assert layer_of(other) < layer_of(own), f"{path.name}:{line} imports {name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_vendors_stay_in_their_place(path: Path) -> None:
    place = path.relative_to(SOURCE).as_posix()
    standard = __import__("sys").stdlib_module_names

    for line, name in imports_of(path):
        vendor = name.split(".")[0]
        if vendor in standard or vendor in ANYWHERE:
            continue
        allowed = VENDORS.get(vendor, set())
        assert any(place == a or place.startswith(f"{a}/") or place == f"{a}.py" for a in allowed), (
            f"{place}:{line} imports {vendor}, which belongs to {sorted(allowed) or 'nobody: add it to VENDORS'}"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_only_the_settings_read_the_environment(path: Path) -> None:
    place = path.relative_to(SOURCE).as_posix()
    if place in ("settings.py", "models/onnxruntime/session.py"):  # the latter writes one variable before an import
        return

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv"), f"{place}:{node.lineno} reads the environment"


def test_nothing_unpickles_or_evaluates() -> None:
    banned = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for path in FILES:
        for line, name in imports_of(path):
            assert name.split(".")[0] not in banned, f"{path.name}:{line}"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{path.name}:{node.lineno}"


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = {path.stem for path in FILES}

    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def test_no_file_has_grown_beyond_reading() -> None:
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 400}

    assert long == {}


def test_the_end_of_a_task_is_counted_in_one_place() -> None:
    counting = {p.name for p in FILES if '"tasks.finished"' in p.read_text() or '"leases.reclaimed"' in p.read_text()}

    assert counting == {"endings.py"}
