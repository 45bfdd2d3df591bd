"""Fixed buffers on the CPU: the code that a GPU runs, with `cpu` for the name of the device."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models.base import Interrupted
from penstock.models.onnxruntime.bindings import GRAPH_BYTES, NO_GRAPH, DeviceBound, HostBound, PlainRun
from penstock.models.onnxruntime.session import Session, manifest
from penstock.worker.devices import cpu

GENERAL = manifest()["superres-x4", "general"]
NIMA = manifest()["image-scoring-v1", "nima"]

PLAIN = replace(cpu(2), streams=1)
HOST = replace(PLAIN, bound=True)
GRAPHS = replace(HOST, cuda_graphs=True, sides=(32, 48, 224, 512), square=False, batches=(1, 2))

Tiles = NDArray[np.uint8]


def tiles(batch: int, height: int = 32, width: int = 48, seed: int = 0) -> Tiles:
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def way(session: Session, shape: tuple[int, ...]) -> object:
    return session._alone.for_shape(shape)


@pytest.fixture(scope="module")
def plain() -> Session:
    return Session(GENERAL, PLAIN)


@pytest.mark.parametrize(("device", "kind"), [(PLAIN, PlainRun), (HOST, HostBound), (GRAPHS, DeviceBound)])
def test_every_way_gives_the_same_values(plain: Session, device: Device, kind: type) -> None:
    session = Session(GENERAL, device)

    for seed in range(3):  # the first one learns
        given = tiles(2, seed=seed)
        np.testing.assert_array_equal(session.run(given)[0], plain.run(given)[0])

    assert isinstance(way(session, (2, 32, 48, 3)), kind)


@pytest.mark.parametrize(("device", "kind"), [(PLAIN, PlainRun), (HOST, PlainRun), (GRAPHS, DeviceBound)])
def test_a_model_of_several_outputs_gives_all_of_them_and_small_ones_by_a_plain_run(device: Device, kind: type) -> None:
    given = tiles(2, 224, 224)
    session = Session(NIMA, device, [(224, 224)])

    for score, distribution in (session.run(given), session.run(given)):
        assert (score.shape, distribution.shape) == ((2,), (2, 10))
        assert score == pytest.approx(distribution @ np.arange(1, 11), abs=1e-4)
    assert isinstance(way(session, given.shape), kind)


@pytest.mark.parametrize("device", [HOST, GRAPHS])
def test_a_result_is_not_touched_by_later_runs_while_somebody_holds_a_part_of_it(
    plain: Session, device: Device
) -> None:
    session = Session(GENERAL, device)
    session.run(tiles(2))

    held = session.run(tiles(2, seed=1))[0][1]
    before = held.copy()
    for seed in range(2, 6):
        session.run(tiles(2, seed=seed))

    np.testing.assert_array_equal(held, before)


@pytest.mark.parametrize("device", [HOST, GRAPHS])
def test_tiles_that_do_not_lie_in_one_piece_are_no_trouble(plain: Session, device: Device) -> None:
    session = Session(GENERAL, device)
    given = tiles(4)[::2, :, ::-1]
    assert not given.flags.c_contiguous

    for _ in range(2):
        np.testing.assert_array_equal(session.run(given)[0], plain.run(given)[0])


def test_only_small_batches_of_known_shapes_become_graphs_each_with_a_number_of_its_own() -> None:
    session = Session(GENERAL, GRAPHS)
    shapes = [(1, 32, 48, 3), (2, 32, 48, 3), (1, 64, 40, 3), (3, 32, 48, 3)]
    assert GRAPH_BYTES < 1024 * 1024 * 16 * 3

    for shape in shapes:
        session.run(np.zeros(shape, np.uint8))
    modes = [way(session, shape) for shape in shapes]

    assert [type(w) for w in modes] == [DeviceBound, DeviceBound, HostBound, HostBound]
    assert len({w.graph for w in modes[:2]}) == 2  # type: ignore[attr-defined]
    assert {w.graph for w in modes[2:]} == {NO_GRAPH}  # type: ignore[attr-defined]
    assert NO_GRAPH not in {w.graph for w in modes[:2]}  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", [HOST, GRAPHS])
def test_a_bound_run_can_be_stopped_and_the_session_lives_on(device: Device) -> None:
    device = replace(device, sides=(256,), square=True, batches=(1,))
    session = Session(GENERAL, device)
    session.run(np.zeros((1, 256, 256, 3), np.uint8))
    ends: list[BaseException] = []

    def run() -> None:
        try:
            session.run(np.zeros((1, 256, 256, 3), np.uint8), owner="me")
        except Interrupted as end:
            ends.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.2)
    session.interrupt("me")
    thread.join(10)

    assert len(ends) == 1
    assert session.run(tiles(1))[0].shape == (1, 128, 192, 3)


def test_a_wrong_shape_is_an_error_about_the_input_on_every_way() -> None:
    for device in (PLAIN, HOST, GRAPHS):
        session = Session(NIMA, device, [(224, 224)])
        with pytest.raises(Exception, match=r"[Ii]nvalid dimensions"):
            session.run(tiles(1, 96, 96))


def test_a_session_runs_on_the_provider_that_was_asked_for_or_not_at_all(tmp_path: Path) -> None:
    gpus = replace(GRAPHS, kind="cuda"), replace(HOST, kind="cuda", tensorrt=True, engine_cache_dir=str(tmp_path))
    for gpu in gpus:
        with pytest.raises(ConfigurationError, match="cannot run on cpu"):
            Session(GENERAL, gpu)
    (engines,) = tmp_path.iterdir()
    assert engines.stat().st_mode & 0o777 == 0o700
