"""TLS with a CA of one's own and certificates of clients: of one server, of sentinels and of a cluster."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis
from msgspec.structs import replace

from penstock.errors import StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Redis, Store, connect, finders, topology_of
from tests.support.redis_fleets import sentinel_with, until
from tests.support.redis_server import free_port
from tests.support.set_up_servers import Certificates, certificates, redis_with, tls_options
from tests.support.stores import submit

ALL_SLOTS = (0, 16383)
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def server(directory: Path, made: Certificates, *more: str) -> Iterator[int]:
    with redis_with(directory, *tls_options(made), "--tls-auth-clients", "yes", *more) as port:
        yield port


@contextmanager
def one_server(directory: Path, made: Certificates) -> Iterator[str]:
    with server(directory, made) as port:
        yield f"rediss://127.0.0.1:{port}"


@contextmanager
def sentinels(directory: Path, made: Certificates) -> Iterator[str]:
    with server(directory, made) as master:
        port = free_port()
        lines = [
            "port 0",
            f"tls-port {port}",
            "tls-replication yes",
            f"tls-ca-cert-file {made.ca}",
            f"tls-cert-file {made.certificate}",
            f"tls-key-file {made.key}",
            f"sentinel monitor the-master 127.0.0.1 {master} 1",
        ]
        with sentinel_with(directory / "sentinel", lines):
            until(lambda: client_at(port, made).ping(), "the sentinel answers")
            yield f"rediss+sentinel://127.0.0.1:{port}/the-master"


@contextmanager
def cluster(directory: Path, made: Certificates) -> Iterator[str]:
    with server(directory, made, "--cluster-enabled", "yes", "--tls-cluster", "yes") as port:
        client = client_at(port, made)
        client.execute_command("CLUSTER ADDSLOTSRANGE", *ALL_SLOTS)
        until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is up")
        yield f"rediss+cluster://127.0.0.1:{port}"


def client_at(port: int, made: Certificates) -> "redis.Redis[bytes]":
    return redis.Redis(
        port=port,
        host="127.0.0.1",
        ssl=True,
        ssl_ca_certs=str(made.ca),
        ssl_certfile=str(made.certificate),
        ssl_keyfile=str(made.key),
        retry=None,
    )


def store_of(client: Redis) -> Store:
    return Store(Engine(client, "tls", QueueSettings(), patience_s=PATIENCE_S))


@pytest.mark.parametrize("kind", [one_server, sentinels, cluster])
async def test_tls_is_spoken_with_all_of_them(
    kind: Callable[[Path, Certificates], AbstractContextManager[str]],
    made: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finders, "ASKED_S", PATIENCE_S)  # a busy machine takes seconds for what TLS computes
    with kind(tmp_path, made) as url:
        settings = RedisSettings(
            url=url,
            namespace="tls",
            tls_ca=str(made.ca),
            tls_certificate=str(made.certificate),
            tls_key=str(made.key),
            timeout_s=PATIENCE_S,
        )
        async with connect(settings) as client:
            store = store_of(client)
            task_id = await submit(store)
            assert (await store.tasks.get(task_id, "default")).id == task_id
            assert kind is one_server or await topology_of(client)
        async with connect(replace(settings, tls_certificate="", tls_key="")) as client:
            with pytest.raises(StoreUnavailable):
                await submit(store_of(client))
