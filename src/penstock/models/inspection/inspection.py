"""From an ONNX file to a definition: what is known, what is guessed and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from penstock.models.declared.definition import Definition
from penstock.models.declared.document import InvalidModel, checked
from penstock.models.declared.plain_file import open_plain
from penstock.models.inspection.families import guess_family, guess_the_usual
from penstock.models.inspection.findings import Findings, MemberFinding
from penstock.models.inspection.graph import Graph, GraphTensor
from penstock.models.inspection.image_input import describe_image, find_image, image_of
from penstock.models.inspection.kinds import describe_activation, describe_outputs
from penstock.models.inspection.metadata import describe_metadata
from penstock.models.inspection.reading import read_graph
from penstock.models.inspection.sidecars import describe_sidecars
from penstock.models.inspection.trial import try_out

CHUNK = 1024 * 1024


class Inspection(Struct, frozen=True, kw_only=True):
    """What was found out about a file: a definition that fits it, and where each of its members comes from."""

    definition: Definition
    known: tuple[MemberFinding, ...]
    guessed: tuple[MemberFinding, ...]
    said: tuple[MemberFinding, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def inspect_file(path: Path, said: Mapping[str, Any], *, version: str = "1") -> Inspection:
    """Inspect an ONNX file. `said` has members that an operator gives, by path.

    Raises InvalidModel with one line when it is no ONNX file, does what no model may, or does not fit what was said.
    """
    try:
        graph = read_graph(path)
        findings = find_out(path, graph, said)
        definition = checked(_definition(path, graph, findings, version))
    except InvalidModel as error:
        raise InvalidModel(f"{path.name}: {error}") from error
    return Inspection(
        definition=definition,
        known=tuple(findings.of("known")),
        guessed=tuple(findings.of("guessed")),
        said=tuple(findings.of("said")),
        inputs=tuple(map(str, graph.inputs)),
        outputs=tuple(map(str, graph.outputs)),
    )


def _definition(path: Path, graph: Graph, findings: Findings, version: str) -> Definition:
    return findings.definition(
        schema=1,
        file=path.name,
        sha256=digest(path),
        version=version,
        data={name: digest(path.parent / name) for name in graph.external},
        tensors=[_tensor(port) for port in graph.inputs] if findings.get("kind") == "tensors" else [],
    )


def find_out(path: Path, graph: Graph, said: Mapping[str, Any]) -> Findings:
    """Find out every member of the definition. Raises InvalidModel."""
    findings = Findings(said)
    image = find_image(graph)
    if image is None:
        _refuse_unlike(graph, findings)
        _describe_tensors(graph, findings)
        return findings
    if findings.get("kind") == "tensors":
        return findings
    describe_metadata(graph, findings)
    describe_sidecars(path, graph, findings)
    describe_image(graph, image, findings)
    describe_outputs(graph, image, findings)
    try_out(path, image, graph.operators(), findings)
    guess_family(graph, image, findings)
    guess_the_usual(image, findings)
    describe_activation(graph, findings)
    return findings


def _refuse_unlike(graph: Graph, findings: Findings) -> None:
    if findings.get("kind", "tensors") != "tensors":
        kind, why = findings.get("kind"), _beside_an_image(graph) or "the graph has none"
        raise InvalidModel(f"kind {kind} needs one input that takes an image, and no other: {why}")


def _beside_an_image(graph: Graph) -> str:
    """Why the image of a graph makes no kind that takes one; empty where there is none."""
    image = next((port.name for port in graph.inputs if image_of(graph, port)), None)
    if image is None:
        return ""
    others = ", ".join(port.name for port in graph.inputs if port.name != image)[:200]
    return (
        f"{image[:60]} may be an image, but {others} must be given too; a runner takes both: penstock models new NAME"
    )


def _describe_tensors(graph: Graph, findings: Findings) -> None:
    other = [port for port in (*graph.inputs, *graph.outputs) if port.dtype == "other"]
    if other:
        raise InvalidModel(f"{other[0].name[:60]!r} is no tensor of numbers; such graphs need a runner of your own")
    findings.know("kind", "tensors", (_beside_an_image(graph) or "no input is an image")[:400])


def _tensor(port: GraphTensor) -> dict[str, Any]:
    dims = ["" if d is None or d in ("None", "?") else d for d in port.dims or ()]
    return {"name": port.name, "dtype": port.dtype, "shape": dims}


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    found = hashlib.sha256()
    with open_plain(path) as stream:
        while chunk := stream.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
