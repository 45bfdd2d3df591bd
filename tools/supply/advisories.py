"""Whether an advisory concerns a locked package, by a file of advisories that lies here: nothing is asked of the net.

The file is what the OSV project publishes of PyPI (`PyPI/all.zip` of its storage), or a folder of such JSON files.
"""

import json
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tools.supply.locks import LOCKS, Pin, all_pins

WAIVERS = LOCKS / "waivers.toml"

Advisory = dict[str, Any]
"""One advisory in the schema of OSV."""


class Concern(NamedTuple):
    """An advisory that concerns a locked package."""

    id: str
    pin: Pin
    locks: tuple[str, ...]
    fixed_in: str
    summary: str


class Report(NamedTuple):
    """What a file of advisories says of the locks; `newest` is when the last of them was changed."""

    total: int
    newest: datetime
    concerns: tuple[Concern, ...]


def check(path: Path, today: date) -> int:
    """Print what a file of advisories says of the locks. Returns 1 when something has no waiver that lasts, else 0."""
    report = report_of(read(path))
    age = (today - report.newest.date()).days
    print(f"{report.total:,} advisories for PyPI, the newest of {report.newest:%Y-%m-%d}: {age} days old")
    waived = waivers(WAIVERS, today)
    for one in report.concerns:
        excuse = f"  waived: {waived[one.id]}" if one.id in waived else ""
        print(f"{one.id}  {one.pin.name} {one.pin.version} ({', '.join(one.locks)})  fixed in {one.fixed_in}{excuse}")
        print(f"    {one.summary}")
    left = sum(one.id not in waived for one in report.concerns)
    print(f"{left} to be mended" if left else "nothing concerns the locked packages")
    return min(left, 1)


def read(path: Path) -> Iterator[Advisory]:
    """Yield the advisories of a zip file, or of a folder, that have not been withdrawn."""
    if path.is_dir():
        texts: Iterable[bytes] = (one.read_bytes() for one in sorted(path.glob("*.json")))
        yield from _standing(texts)
        return
    with zipfile.ZipFile(path) as archive:
        yield from _standing(archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def report_of(advisories: Iterable[Advisory]) -> Report:
    """Return what the advisories say of the locks. Raises ValueError when there is none."""
    used: dict[Pin, list[str]] = {}
    for lock, pins in all_pins().items():
        for pin in pins:
            used.setdefault(pin, []).append(lock)
    by_name: dict[str, list[Pin]] = {}
    for pin in used:
        by_name.setdefault(pin.name, []).append(pin)
    total, newest, concerns = 0, datetime.min.replace(tzinfo=UTC), set[Concern]()
    for advisory in advisories:
        total, newest = total + 1, max(newest, datetime.fromisoformat(advisory["modified"]))
        for affected in advisory.get("affected", ()):
            for pin in by_name.get(_name(affected), ()):
                if concerns_version(affected, pin.version):
                    concerns.add(_concern(advisory, affected, pin, tuple(used[pin])))
    if not total:
        raise ValueError("there is no advisory in it")
    return Report(total, newest, tuple(sorted(concerns)))


def concerns_version(affected: dict[str, Any], version: Version) -> bool:
    """Return whether a version is among those that an advisory lists, or within one of its ranges."""
    listed = any(_version(one) == version for one in affected.get("versions", ()))
    ranges = (one["events"] for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM")
    return listed or any(_is_within(events, version) for events in ranges)


def waivers(path: Path, today: date) -> dict[str, str]:
    """Return why advisories are let pass, by their ids; a waiver ends with its day."""
    rows = tomllib.loads(path.read_text()).get("waiver", ()) if path.exists() else ()
    return {row["id"]: f"{row['why']} (until {row['until']})" for row in rows if row["until"] >= today}


def _is_within(events: Iterable[dict[str, str]], version: Version) -> bool:
    """Whether a version lies in a range, whose events are in the order of their versions."""
    is_in = False
    for event in events:
        [(what, of)] = event.items()
        bound = _version(of)
        if bound is None:
            continue
        if what == "introduced" and version >= bound:
            is_in = True
        elif (what == "fixed" and version >= bound) or (what == "last_affected" and version > bound):
            is_in = False
    return is_in


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:  # old releases have such names
        return None


def _name(affected: dict[str, Any]) -> str:
    package = affected.get("package", {})
    return canonicalize_name(package.get("name", "")) if package.get("ecosystem") == "PyPI" else ""


def _concern(advisory: Advisory, affected: dict[str, Any], pin: Pin, locks: tuple[str, ...]) -> Concern:
    events = [event for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM" for event in one["events"]]
    fixed = sorted(found for event in events if (found := _version(event.get("fixed", ""))) and found > pin.version)
    summary = advisory.get("summary") or advisory.get("details", "").strip().partition("\n")[0]
    return Concern(advisory["id"], pin, locks, str(fixed[0]) if fixed else "no release yet", summary[:100])


def _standing(texts: Iterable[bytes]) -> Iterator[Advisory]:
    for text in texts:
        advisory = json.loads(text)
        if "withdrawn" not in advisory:
            yield advisory
