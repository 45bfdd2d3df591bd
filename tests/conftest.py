"""What every ring of tests may use: a real Redis, a namespace of one's own in it, a storage, settings."""

import gc
import os
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from penstock.settings import ApiSettings, RedisSettings, Settings, StorageSettings
from penstock.storage import Storage, open_storage
from penstock.store import BatchStore, Condemned, Engine, Store, UploadStore, connect
from tests.support import compiled, lengths, redis_server, shared_tls

API_KEY = "a-key-only-for-the-tests"
MOST_AT_ONCE = 16
"""Each has a Redis of its own, and some have an S3 server and two workers."""

shared_tls.share_contexts()
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")
"""No test fails because the machine has something else to do."""


def pytest_report_header() -> str:
    return f"redis: {redis_server.choice() or 'none found'}"


LONGEST_FIRST = ("contract", "system", "store", "api", "storage", "worker", "models")
"""Rings by the time of their files, so that all processes of a run end together; the others follow."""


def pytest_configure(config: pytest.Config) -> None:
    """Lets SIGINT reach the processes that tests start: a shell has its background jobs ignore it, and children inherit
    that; where there is a handler, they start with the default. Files are given out in our order, not by how many tests
    they have, of which the longest have the fewest."""
    config.option.loadscopereorder = False
    os.environ["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / "penstock-tests-state")
    if not hasattr(config, "workerinput"):  # once for all processes of a run
        compiled.compile_package()
        if config.getoption("numprocesses", None):
            compiled.compile_tests(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how long each ring took, its tests one after the other."""
    took: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                took[ring_of(report.nodeid)] += report.duration
    if took:
        terminalreporter.write_line("rings: " + ", ".join(f"{ring} {s:.0f} s" for ring, s in took.most_common()))


def ring_of(nodeid: str) -> str:
    return nodeid.split("/")[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Looks for no garbage among the tests: all that is collected stays, and looking takes a quarter of the time."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by ring, and leaves the order inside of a file as it is; leaves some cases to the long form."""
    place = {ring: n for n, ring in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(ring_of(item.nodeid), len(place)))
    seen: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("at_length"):
            continue
        test = item.nodeid.partition("[")[0]
        if seen[test] % lengths.SAMPLED.get(test.partition("::")[0], 1):
            item.add_marker(pytest.mark.at_length)
        seen[test] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: two for each core, since a test waits more than it computes."""
    return min(2 * len(os.sched_getaffinity(0)), MOST_AT_ONCE)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the session."""
    with redis_server.running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[redis_server.RedisProcess]:
    """A server of this test alone, to be killed and frozen."""
    directory = tmp_path / "redis"
    directory.mkdir()
    with redis_server.RedisProcess(directory) as server:
        yield server


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """Of this test alone; emptied afterwards."""
    name = f"test-{secrets.token_hex(8)}"
    yield name
    redis_server.remove_namespace(redis_url, name)


@pytest.fixture(scope="session")
def api_key() -> str:
    return API_KEY


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Where a storage on the disk keeps what it is given."""
    return tmp_path / "objects"


@pytest.fixture
def settings(redis_url: str, namespace: str, objects: Path) -> Settings:
    """Everything real, nothing shared with another test."""
    return Settings(
        api=ApiSettings(
            keys=(f"default:{API_KEY}",),
            rate_limit_per_minute=100_000,
            wrong_keys_per_minute=0,
            linger_s=0,
            docs="on",
            metrics="on",
        ),
        redis=RedisSettings(url=redis_url, namespace=namespace),
        storage=StorageSettings(directory=str(objects)),
    )


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with connect(settings.redis) as client:
        yield Store(Engine(client, settings.redis.namespace, settings.queue))


@pytest.fixture
async def uploads(settings: Settings) -> AsyncIterator[UploadStore]:
    async with connect(settings.redis) as client:
        yield UploadStore(Engine(client, settings.redis.namespace, settings.queue))


@pytest.fixture
async def batches(settings: Settings) -> AsyncIterator[BatchStore]:
    async with connect(settings.redis) as client:
        yield BatchStore(Engine(client, settings.redis.namespace, settings.queue))


@pytest.fixture
async def condemned(settings: Settings) -> AsyncIterator[Condemned]:
    """What is to be deleted from the storage."""
    async with connect(settings.redis) as client:
        yield Condemned(Engine(client, settings.redis.namespace, settings.queue))


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings.storage, settings.redis.namespace) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageSettings]:
    """Settings of a running S3 server with an empty bucket; skipped where the wheel is not installed."""
    from tests.support.s3_server import running  # botocore takes a second to import, and few tests need it

    with running(tmp_path_factory.mktemp("s3")) as settings:
        yield settings
