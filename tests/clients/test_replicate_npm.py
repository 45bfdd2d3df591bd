"""Replicate's npm client, given another base URL and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.programs import NODE, NPM, PHOTO, run
from tests.support.processes import up
from tests.support.tls_front import tls_front

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent / "replicate"
ACTS = ("runs", "large", "files", "models", "deployments", "predictions", "webhooks", "refusals")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client, a program that uses it, and images."""
    place = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "main.js"):
        shutil.copy(HERE / name, place)
    Image.effect_noise((240, 180), 100).convert("RGB").save(place / "noise.png")
    Image.new("RGB", (1100, 900), "teal").save(place / "wide.png")
    run(*NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=place)
    return place


def acted(place: Path, url: str, key: str, *acts: str) -> Any:
    """What the client got, act by act."""
    files = (PHOTO, "noise.png", "wide.png")
    return json.loads(run(*NODE, "main.js", url, key, *files, *acts, cwd=place))


@pytest.fixture(scope="module")
def found(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By plain http."""
    environ = {"PENSTOCK_LIMITS_ALLOW_NETWORKS": "127.0.0.0/8", "PENSTOCK_WEBHOOKS_ALLOW_HTTP": "true"}
    with up(tmp_path_factory.mktemp("up"), MAX_RETRIES="0", **environ) as system:
        return acted(place, system.url, system.api_key, *ACTS)


def test_replicates_npm_client_runs_unchanged(found: Any) -> None:
    runs = found["runs"]

    assert [(runs[name]["type"], runs[name]["protocol"]) for name in ("block", "poll", "version", "encoded")] == [
        ("image/jpeg", "data:"),
        ("image/jpeg", "data:"),
        ("image/webp", "data:"),
        ("image/webp", "data:"),
    ]
    assert all(runs[name]["size"] > 1000 for name in ("block", "poll", "version", "encoded"))
    assert 1 <= runs["score"] <= 10


def test_its_progress_callback_hears_of_the_beginning_and_the_end(found: Any) -> None:
    seen = found["runs"]["seen"]

    assert set(seen["block"]) <= {"starting", "succeeded"}
    assert seen["poll"][0] == "starting"
    assert seen["block"][-1] == seen["poll"][-1] == "succeeded"


def test_it_fetches_a_large_output_without_a_key(found: Any) -> None:
    assert found["large"]["kind"] == "string", "by plain http it makes no file object"
    assert found["large"]["type"] == "image/png"
    assert found["large"]["size"] > 1_000_000


def test_a_large_output_is_a_file_object_behind_tls(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_front(tmp_path) as front, up(tmp_path / "up", PENSTOCK_API_PUBLIC_URL=front.url) as system:
        front.behind = system.url
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(front.authority))
        large = acted(place, front.url, system.api_key, "large")["large"]

    assert (large["kind"], large["type"]) == ("object", "image/png")
    assert large["size"] > 1_000_000
    assert large["url"].startswith(f"{front.url}/replicate/v1/predictions/")


def test_it_keeps_files(found: Any) -> None:
    assert found["files"] == {
        "name": "photo.jpg",
        "type": "image/jpeg",
        "size": PHOTO.stat().st_size,
        "metadata": {"album": 42},
        "listed": True,
        "type_of_output": "image/webp",
        "deleted": True,
        "still_listed": False,
    }


def test_it_reads_models_and_runs_their_versions(found: Any) -> None:
    assert found["models"] == {
        "listed": ["image-scoring-v1", "superres-x4"],
        "versions": 1,
        "same": True,
        "output": "object",
        "keys": ["score", "distribution"],
    }


def test_it_runs_deployments(found: Any) -> None:
    assert found["deployments"] == {
        "listed": ["image-scoring-v1", "superres-x4"],
        "model": "penstock/superres-x4",
        "version": True,
        "status": "succeeded",
    }


def test_it_lists_and_cancels_predictions(found: Any) -> None:
    assert found["predictions"]["canceled"] == found["predictions"]["read"] == "canceled"
    assert found["predictions"]["listed"]


def test_a_run_that_is_aborted_once_it_gets_on_is_canceled(found: Any) -> None:
    progress = found["predictions"]["progress"]

    assert found["predictions"]["output"] is None
    assert 0 <= progress["current"] <= progress["total"]
    assert progress["total"] > 1


def test_it_validates_webhooks_with_the_secret_that_it_reads(found: Any) -> None:
    assert found["webhooks"] == {
        "valid": True,
        "forged": False,
        "same": True,
        "status": "succeeded",
        "output": "image/png",
    }


def test_its_errors_say_what_is_wrong(found: Any) -> None:
    refusals = found["refusals"]

    assert "input.scale: Expected a number <= 8" in refusals["scale"]
    assert "input.face_enhance: superres-x4 cannot do true" in refusals["face"]
    assert "input.tiles: " in refusals["unknown"]
    assert "404" in refusals["model"]
    assert refusals["damaged"].startswith("Prediction failed: ")
    assert refusals["stream"] == "Prediction does not support streaming"
