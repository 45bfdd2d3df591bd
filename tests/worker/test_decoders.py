"""Images are decoded by processes that can be ended, and that can do nothing else."""

import asyncio
import io
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from penstock.core.task import Priority
from penstock.errors import ImageDecodeFailed, Internal, PenstockError
from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture, PixelForm
from penstock.settings import LimitSettings
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.codecs import CodecThreads
from penstock.worker.decoders.decoder import GIVING_WAY, Decoder
from penstock.worker.decoders.exchange import Decoded, DecodeOutcome
from penstock.worker.decoders.pool import DecoderPool, StoppableCall
from penstock.worker.decoders.shared_file import SharedFile
from penstock.worker.devices import cpu
from tests.pixels.pngs import png
from tests.pixels.profiles import matrix_profile
from tests.pixels.tiffs import tiff
from tests.support.drive import scan_bomb
from tests.support.workers import until

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")

ANY_SCANS = ImageBounds(scans=10**6)
COLOURS = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNED = Image.Exif()
TURNED[0x0112] = 6

FORMS: dict[str, tuple[str, str, dict[str, object]]] = {
    "png": ("PNG", "RGB", {}),
    "png, turned, with a profile": ("PNG", "RGB", {"exif": TURNED, "icc_profile": PROFILE}),
    "png, alpha": ("PNG", "RGBA", {}),
    "png, grey": ("PNG", "L", {}),
    "png, grey with alpha": ("PNG", "LA", {}),
    "png, one bit": ("PNG", "1", {}),
    "png, palette": ("PNG", "P", {"transparency": 3}),
    "png, 16 bits": ("PNG", "I;16", {}),
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg, progressive, turned, with a profile": (
        "JPEG",
        "RGB",
        {"progressive": True, "exif": TURNED, "icc_profile": PROFILE},
    ),
    "jpeg, cmyk": ("JPEG", "CMYK", {}),
    "jpeg, with a preview": ("MPO", "RGB", {"save_all": True, "append_images": [Image.fromarray(COLOURS)]}),
    "webp": ("WEBP", "RGB", {}),
    "webp, turned, with a profile": ("WEBP", "RGB", {"exif": TURNED, "icc_profile": PROFILE}),
    "webp, alpha": ("WEBP", "RGBA", {"lossless": True}),
    "gif": ("GIF", "P", {"transparency": 3}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {"icc_profile": PROFILE}),
    "tiff, packed": ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    "tiff, 16 bits": ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    "tiff, fax": ("TIFF", "1", {"compression": "group4"}),
    "avif, turned": ("AVIF", "RGB", {"exif": TURNED, "max_threads": 1}),
    "avif, alpha": ("AVIF", "RGBA", {"max_threads": 1}),
}


def saved(form: str, pixels: np.ndarray = COLOURS) -> bytes:
    format, mode, options = FORMS[form]
    image = Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(pixels[..., 0]))
    out = io.BytesIO()
    (image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)).save(out, format, **options)
    return out.getvalue()


def endless() -> bytes:
    """An image that takes minutes to decode."""
    return scan_bomb(20_000, side=3000)


def decoded(decoder: Decoder, data: bytes) -> Picture:
    return decoder.decode(data, probe(data, ANY_SCANS))


def decoded_in(pool: DecoderPool, data: bytes) -> Picture:
    return StoppableCall(pool).run(decode, data, ANY_SCANS)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(2**30)
    yield decoder
    decoder.close()


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(LimitSettings())
    yield pool
    pool.close()


def children() -> set[int]:
    """The processes that decode for this one."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (path / "status").read_text(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if f"\nPPid:\t{os.getpid()}\n" in status and b"decoders.child" in command:
            found.add(int(path.name))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_child_decodes_every_form_as_this_process_does(decoder: Decoder, form: str) -> None:
    data = saved(form)

    ours, its = decode(data), decoded(decoder, data)

    assert np.array_equal(its.rgb, ours.rgb)
    assert its.grey == ours.grey
    assert set(its.notes) == set(ours.notes) - {"metadata_stripped"}  # which the header tells
    assert (its.alpha is None) == (ours.alpha is None)
    assert ours.alpha is None or np.array_equal(its.alpha, ours.alpha)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_child_reads_all_bits_where_they_are_wanted(decoder: Decoder, channels: int) -> None:
    values = np.random.default_rng(2).integers(0, 65_536, (300, 200, channels), np.uint16)
    profile = zlib.compress(matrix_profile(1.8, primaries="P3", is_grey=channels < 3))
    data = png(values, 16, {b"iCCP": b"p\0\0" + profile})
    wanted, bounds = PixelForm(is_deep=True), ImageBounds()

    there, here = decoder.decode(data, probe(data, bounds), wanted), decode(data, bounds, wanted)

    assert there.rgb.dtype == np.uint16
    assert np.array_equal(there.rgb, here.rgb)
    assert np.array_equal(there.alpha, here.alpha) if channels in (2, 4) else there.alpha is here.alpha is None  # type: ignore[arg-type]


def test_a_child_reads_all_bits_of_a_tiff(decoder: Decoder) -> None:
    values = np.random.default_rng(2).integers(0, 65_536, (30, 20, 3), np.uint16)
    data, wanted, bounds = tiff(values, is_packed=True), PixelForm(is_deep=True), ImageBounds()

    assert np.array_equal(decoder.decode(data, probe(data, bounds), wanted).rgb, values)


@pytest.mark.parametrize("is_deep", [False, True])
def test_a_child_hands_over_the_profile_of_colours_that_are_kept(decoder: Decoder, is_deep: bool) -> None:
    profile = matrix_profile(1.8, primaries="P3") + bytes(300_000)
    data = png(COLOURS.astype(np.uint16) * 257, 16, {b"iCCP": b"p\0\0" + zlib.compress(profile)})
    wanted, bounds = PixelForm(is_deep=is_deep, keeps_colours=True), ImageBounds()

    there, here = decoder.decode(data, probe(data, bounds), wanted), decode(data, bounds, wanted)

    assert there.profile == here.profile == profile
    assert np.array_equal(there.rgb, COLOURS.astype(np.uint16) * 257 if is_deep else COLOURS)
    assert np.array_equal(there.rgb, here.rgb)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_child_takes_what_is_there_of_a_truncated_image_where_that_is_wanted(pool: DecoderPool, form: str) -> None:
    out = io.BytesIO()
    Image.fromarray(COLOURS).save(out, form)
    half, bounds = out.getvalue()[: len(out.getvalue()) * 3 // 4], ImageBounds(takes_truncated=True)

    there, here = StoppableCall(pool).run(decode, half, bounds), decode(half, bounds)

    assert np.array_equal(there.rgb, here.rgb)
    assert there.notes == here.notes == ("truncated",)
    with pytest.raises(ImageDecodeFailed, match="the image is truncated"):
        StoppableCall(pool).run(decode, half, ImageBounds())


def test_a_child_says_of_an_image_in_an_unusual_form_that_it_is_one(pool: DecoderPool) -> None:
    entries = [(256, 1, 1), (257, 1, 1), (258, 2, 16 * 65_537), (259, 1, 1), (262, 1, 1), (273, 1, 8), (277, 1, 2)]
    directory = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in entries)
    greys_with_alpha = b"II*\0" + struct.pack("<IIH", 12, 0, len(entries)) + directory + bytes(4)

    for call in (decode, partial(StoppableCall(pool).run, decode)):
        with pytest.raises(ImageDecodeFailed, match="the image holds its pixels in an unusual way"):
            call(greys_with_alpha)


def test_a_picture_stays_as_it_is_while_others_are_decoded(decoder: Decoder) -> None:
    pictures = [decoded(decoder, saved("png", np.full_like(COLOURS, n))) for n in range(4)]

    assert [int(picture.rgb.min()) for picture in pictures] == [0, 1, 2, 3]
    assert [int(picture.rgb.max()) for picture in pictures] == [0, 1, 2, 3]


MUTATED = [saved(form) for form in FORMS]


@settings(max_examples=100)
@given(
    which=st.integers(0, len(MUTATED) - 1),
    edits=st.lists(st.tuples(st.integers(20, 400), st.binary(min_size=1, max_size=3)), min_size=1, max_size=3),
)
def test_up6_mutated_files_end_in_a_child_as_they_end_here(
    decoder: Decoder, which: int, edits: list[tuple[int, bytes]]
) -> None:
    data = MUTATED[which]
    for at, new in edits:
        data = data[:at] + new + data[at + len(new) :]

    try:
        probe(data, ImageBounds(1))
    except PenstockError:
        return  # neither decodes it

    assert _outcome(lambda: decoded(decoder, data)) == _outcome(lambda: decode(data))
    assert decoder.is_fit


def _outcome(decode: Callable[[], Picture]) -> bytes | str:
    try:
        return decode().rgb.tobytes()
    except ImageDecodeFailed as error:
        return error.detail


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_child_that_dies_fails_one_image_and_the_next_is_decoded(
    pool: DecoderPool, how: signal.Signals
) -> None:
    before = children()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(decoded_in, pool, endless())
        await until(lambda: any(_is_busy(pid) for pid in children() - before))
        (child,) = children() - before
        os.kill(child, how)

        with pytest.raises(ImageDecodeFailed, match=how.name):
            await asyncio.wrap_future(future)
        again = await asyncio.wrap_future(thread.submit(decoded_in, pool, saved("png")))
        assert again.rgb.shape == (24, 40, 3)
    assert child not in children()


def _is_busy(pid: int) -> bool:
    """Whether it has begun with an image: it is confined, and works."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "NoNewPrivs:\t1" in status and "State:\tR" in status


async def test_a_scan_bomb_is_ended_at_its_timeout_while_another_image_is_decoded(pool: DecoderPool) -> None:
    codecs = CodecThreads(cpu(), pool)
    await codecs.run(Priority.NORMAL, AttemptClock(), decode, saved("jpeg"))  # a child is there

    async def attempt() -> float:
        clock, began = AttemptClock(1.0), time.monotonic()
        with pytest.raises(TimeoutError):
            async with clock:
                await codecs.run(Priority.NORMAL, clock, decode, endless(), ANY_SCANS)
        assert clock.has_expired
        return time.monotonic() - began

    bomb = asyncio.create_task(attempt())
    others = 0
    while not bomb.done():
        await codecs.run(Priority.HIGH, AttemptClock(), decode, saved("jpeg"))
        others += 1
    took_s = await bomb
    after = await codecs.run(Priority.NORMAL, AttemptClock(), decode, saved("jpeg"))
    codecs.urgent.close()
    codecs.usual.close()

    assert took_s < 2 * 3  # its timeout and a second, three times on a busy machine
    assert others > 1
    assert after.rgb.shape == (24, 40, 3)


async def test_a_child_that_takes_longer_than_usual_gives_way_to_one_that_is_ready(pool: DecoderPool) -> None:
    before = children()
    decoded_in(pool, saved("png"))
    (slow,) = children() - before
    with ThreadPoolExecutor(1) as thread:
        call = StoppableCall(pool)
        future = thread.submit(call.run, decode, endless(), ANY_SCANS)
        await until(lambda: os.getpriority(os.PRIO_PROCESS, slow) == GIVING_WAY)
        await until(lambda: len(pool.idle) == 1)
        (ready,) = children() - before - {slow}
        decoded_in(pool, saved("png"))
        call.stop()
        with pytest.raises(ImageDecodeFailed):
            await asyncio.wrap_future(future)

    assert children() - before == {ready}


def test_a_call_that_is_stopped_decodes_nothing_more(pool: DecoderPool) -> None:
    call = StoppableCall(pool)
    call.stop()

    with pytest.raises(ImageDecodeFailed, match="stopped"):
        call.run(decode, saved("png"))


def test_an_image_that_takes_more_memory_than_it_may_fails_alone() -> None:
    small = Decoder(64 * 1024**2)

    with pytest.raises(ImageDecodeFailed, match="memory"):
        decoded(small, saved("png", np.zeros((3000, 3000, 3), np.uint8)))

    assert decoded(small, saved("png")).rgb.shape == (24, 40, 3)
    small.close()


ATTEMPTS = """
import ctypes, errno, mmap, os, socket, sys
from penstock.worker.decoders.confinement import confine
libc = ctypes.CDLL(None, use_errno=True)
line = socket.socket(socket.AF_INET)
memory = os.memfd_create("code")
os.ftruncate(memory, 4096)
def call(number, *arguments):
    def attempt():
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")
    return attempt
attempts = {
    "open": lambda: open("/etc/passwd"),
    "list": lambda: os.listdir("/"),
    "connect": lambda: line.connect(("127.0.0.1", 9)),
    "socket": lambda: socket.socket(),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "ptrace": call(101 if os.uname().machine == "x86_64" else 117, 16, os.getppid(), 0, 0),
    "execute memory": call(10 if os.uname().machine == "x86_64" else 226, ctypes.c_void_p(0), 4096, 4),
    "more memory": lambda: __import__("resource").setrlimit(9, (-1, -1)),
}
import resource
out = socket.socket(fileno=int(sys.argv[1]))
lacks = confine(2**26)
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        result = errno.errorcode.get(error.errno, "?")
    except ValueError as error:
        result = "EPERM" if "not allowed" in str(error) else str(error)
    else:
        result = "done"
    out.send(f"{name}={result}\\n".encode())
try:
    bytearray(2**27)
except MemoryError:
    out.send(b"128 MB=MemoryError\\n")
out.send(("lacks=" + ",".join(lacks) + "\\n").encode())
"""


def test_up7_a_confined_process_can_open_connect_fork_trace_and_execute_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-c", ATTEMPTS, str(theirs.fileno())]
            subprocess.run(command, pass_fds=[theirs.fileno()], timeout=60, check=False)
        lines = ours.makefile().read().splitlines()

    results = dict(line.split("=", 1) for line in lines)
    lacks = results.pop("lacks")
    if "seccomp" in lacks:
        pytest.skip("this kernel has no seccomp")
    assert results.pop("128 MB") == "MemoryError"
    assert results == dict.fromkeys(results, "EPERM")
    assert len(results) == 10


def test_up7_a_child_is_confined_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "me:canary-of-a-secret")
    before = children()
    with closing(Decoder(2**30)) as decoder:
        (pid,) = children() - before
        decoded(decoder, saved("png"))

        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "seccomp" in decoder.lacks or "Seccomp:\t2" in status
        assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 2**32
        assert resource.prlimit(pid, resource.RLIMIT_CPU)[0] < 30
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        with suppress(PermissionError):  # only root may look into it
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 4  # nothing, three times, and its socket
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()


WORKER = """
import os, time
from penstock.worker.decoders.decoder import GIVING_WAY, Decoder
decoder = Decoder(2**30)
print(decoder._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


async def test_a_child_ends_with_its_worker() -> None:
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, stdout=subprocess.PIPE)
    child, _ = await worker.communicate()

    await until(lambda: not _is_running(int(child)))


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_nobody_can_cut_a_file_that_the_worker_reads() -> None:
    file = SharedFile(4096)

    for size in (0, 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(file.number, size)
    file.close()


@pytest.mark.parametrize("message", [b"", b"\0", b"\0" * 63])
def test_an_answer_of_another_form_is_none(message: bytes) -> None:
    with pytest.raises(ValueError, match="not an answer"):
        Decoded.of(message)


def test_an_answer_is_read_as_it_was_written() -> None:
    answer = Decoded(DecodeOutcome.DECODED, 3, 70_000, has_alpha=True)

    assert Decoded.of(answer.packed()) == answer


@pytest.mark.parametrize("executable", ["/bin/false", "/nowhere/python"])
def test_a_child_that_cannot_start_is_a_fault_of_ours(
    pool: DecoderPool, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)

    with pytest.raises(Internal):
        decoded_in(pool, saved("png"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_the_whole_group_of_a_worker_ends_no_child(decoder: Decoder, how: signal.Signals) -> None:
    before = decoder.cpu_s
    for pid in children():
        os.kill(pid, how)

    assert decoded(decoder, saved("png")).rgb.shape == (24, 40, 3)
    assert decoder.cpu_s > before
