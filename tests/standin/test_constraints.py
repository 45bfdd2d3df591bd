"""The tested versions of CUDA's wheels, beside what the wheel of ONNX Runtime requires."""

from pathlib import Path

from packaging.requirements import Requirement

from tests.standin.card import Card

CONSTRAINTS = Path(__file__).parents[2] / "deploy" / "constraints-gpu.txt"

REQUIRES = """
import json
from importlib import metadata
gpu = metadata.distribution("onnxruntime-gpu")
print(json.dumps([gpu.version, gpu.requires]))
"""


def test_the_tested_versions_are_those_that_the_runtime_requires(card: Card) -> None:
    version, requires = card.run(REQUIRES)
    lines = CONSTRAINTS.read_text().splitlines()
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    wanted = [
        requirement
        for requirement in map(Requirement, requires)
        if requirement.marker and any(requirement.marker.evaluate({"extra": extra}) for extra in ("cuda", "cudnn"))
    ]

    assert tested["onnxruntime-gpu"] == version
    assert len(wanted) >= 5
    assert [str(r) for r in wanted if not r.specifier.contains(tested.get(r.name, "0"))] == []
