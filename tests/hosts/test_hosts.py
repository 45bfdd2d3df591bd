"""Every scenario between hosts in its small size, each in its own process, and the hosts themselves."""

import socket
import subprocess
import sys

import pytest

from tests.chaos.parts import ROOT
from tests.hosts.machines import CannotMakeHosts, Network, check
from tests.hosts.scenarios import SHORT
from tests.support import redis_server

pytestmark = pytest.mark.hosts
SEED = 1


@pytest.fixture(scope="module", autouse=True)
def _hosts() -> None:
    """Skips where no hosts can be made, which is tried."""
    if redis_server.binary() is None:
        pytest.skip("no redis-server or valkey-server for a host")
    try:
        check()
    except CannotMakeHosts as reason:
        pytest.skip(str(reason))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", SHORT)
def test_the_bars_of_a_scenario_between_hosts_hold(scenario: str) -> None:
    command = [sys.executable, "-m", "tests.hosts", "--scenario", scenario, "--short", "--seed", str(SEED)]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    if "\n  skipped: " in run.stdout:
        pytest.skip(run.stdout)


def test_a_firewall_that_has_forgotten_carries_new_connections_and_no_old_one() -> None:
    with Network() as network:
        one, other = network.machine("one"), network.machine("other")
        with one.entered():
            listener = socket.create_server((one.address, 7))
        with listener, other.entered(), socket.create_connection((one.address, 7), 5) as old:
            served, _ = listener.accept()
            network.forget([(one, other)])
            old.sendall(b"old")
            with socket.create_connection((one.address, 7), 5) as new, listener.accept()[0] as again, served:
                new.sendall(b"new")
                assert again.recv(3) == b"new"
                served.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    served.recv(3)


def test_a_host_that_was_switched_off_and_on_knows_no_connection_of_before() -> None:
    with Network() as network:
        one, other = network.machine("one"), network.machine("other")
        with one.entered():
            listener = socket.create_server((one.address, 7))
        with other.entered():
            client = socket.create_connection((one.address, 7), 5)
        with client, listener:
            network.boot(one)
            client.sendall(b"hello")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
