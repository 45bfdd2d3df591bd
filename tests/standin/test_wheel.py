"""Which cards the wheel of onnxruntime-gpu has code for."""

import struct
from collections.abc import Iterator

import pytest
from elftools.elf.elffile import ELFFile

from penstock.models.onnxruntime.identity import MACHINE_CODE
from tests.standin.environment import Standin

MAGIC = struct.pack("<I", 0xBA55ED50)
PTX, CUBIN = 1, 2


def code_for(binaries: bytes) -> Iterator[tuple[int, int]]:
    """The kind of code and the compute capability (86 is 8.6) of each entry of each fat binary of NVIDIA's compiler."""
    at = binaries.find(MAGIC)
    while at >= 0:
        header, size = struct.unpack_from("<HQ", binaries, at + 6)
        entry, end = at + header, at + header + size
        while entry < end:
            kind, _, its_header, its_size = struct.unpack_from("<HHIQ", binaries, entry)
            yield kind, struct.unpack_from("<I", binaries, entry + 28)[0]
            entry += its_header + its_size
        at = binaries.find(MAGIC, end)


@pytest.mark.usefixtures("card")
def test_penstock_knows_the_cards_that_the_wheel_has_code_for() -> None:
    with Standin().provider.open("rb") as file:
        found = set(code_for(ELFFile(file).get_section_by_name(".nv_fatbin").data()))

    assert {kind for kind, _ in found} == {CUBIN}, "a driver could translate PTX for other cards"
    assert sorted(capability for _, capability in found) == [major * 10 + minor for major, minor in MACHINE_CODE]
