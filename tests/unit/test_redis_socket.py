"""The socket of the Redis that `penstock up` starts, and where the commands that work beside it look for it."""

import socket
from pathlib import Path

import pytest

from penstock.local.redis_server import SOCKET_PATH_MAX, redis_child, socket_of


@pytest.mark.parametrize("parts", [1, 12], ids=["short", "too long for a socket"])
def test_the_socket_is_found_from_the_data_directory_however_long_its_path_is(tmp_path: Path, parts: int) -> None:
    data_dir = tmp_path.joinpath(*["directory"] * parts)
    assert not socket_of(data_dir).exists()

    for _ in range(2):  # a second start takes another socket
        _, url = redis_child(data_dir)
        path = url.removeprefix("unix://")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)

        assert socket_of(data_dir) == Path(path).resolve()
        assert socket_of(data_dir).is_socket()
        assert len(path) <= SOCKET_PATH_MAX
        Path(path).unlink()
