"""What an encoder takes is no more than is set aside for it."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from penstock.core.output import OutputOptions
from penstock.pixels.formats import encoder_bytes

WIDTH, HEIGHT = 1600, 1000

PROGRAM = """
import re, sys
import msgspec, numpy as np
from PIL import Image
from penstock.core.output import OutputOptions
from penstock.pixels.encoding import written

def memory(word):
    return 1024 * int(re.search(word + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

options = msgspec.json.decode(sys.argv[1], type=OutputOptions)
image = Image.effect_noise((WIDTH, HEIGHT), 90).convert("RGB")
written(image.resize((16, 16)), options)
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
written(image, options)
print(memory("VmHWM") - before)
""".replace("WIDTH", str(WIDTH)).replace("HEIGHT", str(HEIGHT))

FILE_BYTES, AROUND_BYTES = 2, 8 * 2**20
"""What is set aside for the file of each pixel in any case, and what an encoder takes for an image of any size."""

OPTIONS = {
    "avif": OutputOptions(format="avif"),
    "tiff": OutputOptions(format="tiff"),
    "webp": OutputOptions(format="webp"),
    "webp, lossless": OutputOptions(format="webp", lossless=True),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not measure a process anew")
@pytest.mark.parametrize("case", OPTIONS)
def test_an_encoder_takes_what_is_set_aside_for_it(case: str) -> None:
    options = OPTIONS[case]
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(options).decode()]

    taken = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    expected = WIDTH * HEIGHT * (FILE_BYTES + encoder_bytes(options))
    assert expected / 4 < taken <= expected + AROUND_BYTES
