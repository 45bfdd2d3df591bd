"""What Penstock is installed from: the locks, the page of licences, and advisories in a file."""

import json
import tomllib
import zipfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.supply import advisories
from tools.supply.licences import PAGE, licence_of, listed
from tools.supply.locks import LOCKS, OF_IMAGES, ROOT, all_pins, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {"api": (), "worker-cpu": ("cpu",), "worker-gpu": ("gpu",)}
TODAY = date(2026, 3, 1)


def wanted(lock: str) -> list[Requirement]:
    if lock == "build":
        return [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    project = PROJECT["project"]
    texts = (*project["dependencies"], *(t for one in EXTRAS[lock] for t in project["optional-dependencies"][one]))
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", OF_IMAGES)
def test_sc2_a_lock_has_what_the_project_asks_for_with_the_digests_of_its_files(lock: str) -> None:
    locked = all_pins()[lock]
    versions = {name: [pin.version for pin in locked if pin.name == name] for name in {pin.name for pin in locked}}

    missing = [
        str(one)
        for one in wanted(lock)
        if not any(one.specifier.contains(v, prereleases=True) for v in versions.get(canonicalize_name(one.name), ()))
    ]
    assert missing == [], "run `just lock`"
    assert [pin.name for pin in locked if not pin.digests] == []
    assert all(digest.startswith("sha256:") and len(digest) == 71 for pin in locked for digest in pin.digests)


def test_sc2_no_lock_names_an_index() -> None:
    for lock in OF_IMAGES:
        text = (LOCKS / f"{lock}.txt").read_text()

        assert "://" not in text
        assert not [line for line in text.splitlines() if line.startswith("-")]


def test_the_gpu_image_is_locked_to_the_versions_of_cuda_that_are_tested() -> None:
    lines = (ROOT / "deploy" / "constraints-gpu.txt").read_text().splitlines()
    tested = {Requirement(line) for line in lines if line and not line.startswith("#")}
    locked = {pin.name: pin.version for pin in all_pins()["worker-gpu"]}

    assert [str(one) for one in tested if not one.specifier.contains(locked[canonicalize_name(one.name)])] == []


def test_the_page_of_licences_lists_each_locked_version() -> None:
    page = PAGE.read_text()

    assert [pin for lock in all_pins().values() for pin in lock if listed(pin) not in page] == [], "run `just lock`"
    assert "not named" not in page


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT", "license": "whatever"}, "MIT"),
        ({"license": "Apache 2.0\n"}, "Apache 2.0"),
        ({"license": "x" * 60, "classifier": ["License :: OSI Approved :: MIT License"]}, "MIT License"),
        ({"classifier": ["Topic :: Internet"]}, "not named"),
    ],
)
def test_a_licence_is_what_the_metadata_name_most_exactly(metadata: dict[str, Any], licence: str) -> None:
    assert licence_of(metadata) == licence


def test_a_lock_that_leaves_a_version_open_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "open.txt").write_text("pillow>=12\n")

    with pytest.raises(ValueError, match="pins one version"):
        pins(tmp_path / "open.txt")


# --- advisories -----------------------------------------------------------------------------------------------


def advisory(name: str, *events: dict[str, str], versions: Iterable[str] = (), **members: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, "versions": list(versions)}
    return {
        "id": f"PYSEC-{name}",
        "modified": "2026-02-19T10:00:00Z",
        "summary": "s",
        "affected": [affected],
        **members,
    }


def locked_version(name: str) -> Version:
    return next(pin.version for pin in all_pins()["api"] if pin.name == name)


@pytest.mark.parametrize(
    ("version", "is_concerned"),
    [("1.0", False), ("1.5", True), ("1.9.9", True), ("2.0", False), ("3.1", True), ("3.2", True), ("3.3", False)],
)
def test_a_version_is_concerned_between_the_events_of_a_range(version: str, is_concerned: bool) -> None:
    made = advisory("pillow", {"introduced": "1.1"}, {"fixed": "2.0"}, {"introduced": "3.0"}, {"last_affected": "3.2"})

    assert advisories.concerns_version(made["affected"][0], Version(version)) is is_concerned


def test_sc1_an_advisory_that_concerns_a_locked_package_is_told_with_its_age_and_its_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = advisory("Pillow", {"introduced": "0"}, {"fixed": "9999"})
    of_others = advisory("another-package", {"introduced": "0"}, modified="2026-02-20T10:00:00Z")
    withdrawn = advisory("redis", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z")
    by_version = advisory("httpx", versions=["not-a-version", str(locked_version("httpx"))])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for n, one in enumerate((told, of_others, withdrawn, by_version)):
            archive.writestr(f"{n}.json", json.dumps(one))

    assert advisories.check(tmp_path / "all.zip", TODAY) == 1
    printed = capsys.readouterr().out
    assert "3 advisories for PyPI, the newest of 2026-02-20: 9 days old" in printed
    version = locked_version("pillow")
    assert f"PYSEC-Pillow  pillow {version} (api, worker-cpu, worker-gpu)  fixed in 9999" in printed
    assert f"PYSEC-httpx  httpx {locked_version('httpx')}" in printed
    assert "no release yet" in printed
    assert "2 to be mended" in printed


def test_sc1_a_dated_waiver_lets_an_advisory_pass_until_its_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.json").write_text(json.dumps(advisory("pillow", {"introduced": "0"})))
    waiver = tmp_path / "waivers.toml"
    waiver.write_text('[[waiver]]\nid = "PYSEC-pillow"\nuntil = 2026-03-01\nwhy = "we read no TIFF"\n')
    monkeypatch.setattr(advisories, "WAIVERS", waiver)

    on_its_day, after_it = (advisories.check(tmp_path, day) for day in (TODAY, date(2026, 3, 2)))
    assert (on_its_day, after_it) == (0, 1)
    assert "waived: we read no TIFF (until 2026-03-01)" in capsys.readouterr().out


def test_a_file_without_advisories_is_no_all_clear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no advisory"):
        advisories.check(tmp_path, TODAY)
