"""`python -m tools.convert.golden` writes what the shipped networks make of the golden patterns, as a CPU computes it.

A device whose results differ from these may not serve: see `penstock.models.onnxruntime.golden`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from penstock.core.device import Device
from penstock.models.onnxruntime.golden import FILE, PATTERNS, PERIOD_PX, batch_of, compared
from penstock.models.onnxruntime.session import ModelFile, Session, manifest

from .__main__ import MODELS

LEVELS, SCORE = 2.0, 0.01
"""How far a device may be from the CPU. Rounding moves an image by one level of 255 at most, in fp16 arithmetic too; a
score by 0.002, while exchanged channels move it by 0.1."""

TOLERANCES = {("superres-x4.clean", "stripes"): 64.0}
"""SPAN multiplies the rounding errors of stripes: two runtimes in fp32 are up to 18 levels apart, TF32 is 255 away."""

SIDES = {"image-scoring-v1.nima": 224}


def main() -> int:
    stored = {file.network: answers_of(file) for file in manifest().values()}
    (MODELS / FILE).write_text(in_lines(stored))
    print(f"{FILE}: {len(stored)} networks, {len(PATTERNS)} patterns each")
    return 0


def in_lines(stored: dict[str, dict[str, Any]]) -> str:
    """JSON with a line for each answer."""
    networks = []
    for network, patterns in stored.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(answer)}" for name, answer in patterns.items()]
        networks.append(f"  {json.dumps(network)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(networks) + "\n}\n"


def answers_of(file: ModelFile) -> dict[str, dict[str, Any]]:
    """The answers of one network by pattern, from its fp32 file."""
    side = SIDES.get(file.network, PERIOD_PX)
    device = Device(name="cpu", kind="cpu", threads=1, sides=(side,), batches=(1,))
    session = Session(file, device, [(side, side)])
    return {name: _answer(file, name, session.run(batch_of(name, side, side))) for name, _ in PATTERNS}


def _answer(file: ModelFile, pattern: str, outputs: list[Any]) -> dict[str, Any]:
    usual = LEVELS if file.scale > 1 else SCORE
    values = [int(value) if file.scale > 1 else round(float(value), 5) for value in compared(outputs)]
    return {"tolerance": TOLERANCES.get((file.network, pattern), usual), "values": values}


if __name__ == "__main__":
    sys.exit(main())
