"""The folder of a new model: the file, a `model.toml` with what was found out about it, and an example with its
answer."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from penstock.errors import ConfigurationError, PenstockError
from penstock.models.declared import FILE, check
from penstock.models.declared.definition import Definition
from penstock.models.declared.document import InvalidModel, document, read_definition
from penstock.models.declared.runner import declared_runner
from penstock.models.inspection.examples import LARGEST_EXAMPLE_BYTES, ExampleFile, examples_for
from penstock.models.inspection.findings import MemberFinding, parse_said
from penstock.models.inspection.inspection import Inspection, inspect_file
from penstock.models.inspection.trial import plain_message
from penstock.models.members import InputFile, InputMembers
from penstock.settings import LimitSettings

LABELS_FILE = "labels.txt"
MOST_LABELS = 200
"""More labels than these go into a file beside `model.toml`."""


ANSWERS = frozenset({".json", ".png", ".npy", ".npz"})


class DraftRequest(Struct, frozen=True, kw_only=True):
    """Which file becomes a model, and what an operator says about it: texts such as `input.range=0-255`."""

    file: str
    folder: str
    name: str
    said: tuple[str, ...] = ()
    version: str = "1"
    example: str = ""
    """A file that the model shall answer; empty is one that fits the kind."""


class ModelDraft(Struct, frozen=True, kw_only=True):
    """A model's folder that was written, and how the model did on its example.

    `answer` is the data of the answer, `answer_file` its file in the folder; `problem` says why there is none.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    known: tuple[MemberFinding, ...]
    guessed: tuple[MemberFinding, ...]
    said: tuple[MemberFinding, ...]
    example: str = ""
    answer: dict[str, Any] | None = None
    answer_file: str = ""
    answer_s: float = 0.0
    problem: str = ""


def draft(request: DraftRequest) -> ModelDraft:
    """Inspect a file, and write the folder of its model. Raises ConfigurationError with one line."""
    file, folder = Path(request.file), Path(request.folder)
    inspection = inspect_file(file, parse_said(request.said), version=request.version)
    definition = inspection.definition
    for name in (definition.file, *definition.data):
        if _is_of_a_draft(name, request):
            raise InvalidModel(f"{name} is the name of another file of a model: give it another one")
        shutil.copyfile(file.parent / name, folder / name)
    definition = _with_labels_apart(definition, folder)
    _write(definition, inspection, folder)
    return _answered(request, inspection, definition, folder)


def _is_of_a_draft(name: str, request: DraftRequest) -> bool:
    stem, extension = Path(name).stem, Path(name).suffix
    extensions = {".jpg", ".npz", Path(request.example).suffix.lower()} if stem == "example" else ANSWERS
    return name in (FILE, LABELS_FILE) or (stem in ("example", "answer") and extension in extensions)


def _with_labels_apart(definition: Definition, folder: Path) -> Definition:
    labels = definition.output.labels
    if isinstance(labels, str) or len(labels) <= MOST_LABELS:
        return definition
    (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in labels))
    output = msgspec.structs.replace(definition.output, labels=LABELS_FILE)
    return msgspec.structs.replace(definition, output=output)


def _write(definition: Definition, inspection: Inspection, folder: Path) -> None:
    notes = {found.path: found.why for found in inspection.known if found.path != "kind"}
    (folder / FILE).write_text(document(definition, notes))


def _answered(request: DraftRequest, inspection: Inspection, definition: Definition, folder: Path) -> ModelDraft:
    """The draft with the answer to its example, which is stored as the model's check. Where the runtime takes none of
    the examples that we can think of, the model has no check, and the draft says why."""
    problem = f"its inputs take more than {LARGEST_EXAMPLE_BYTES // 2**20} MiB"
    for example in examples_for(definition, Path(request.example) if request.example else None):
        try:
            return _checked(request.name, inspection, example, folder)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - the runtime's own classes are private
            problem = str(error) if isinstance(error, PenstockError) else plain_message(error)
    if definition.kind != "tensors":
        raise InvalidModel(f"{definition.file}: it does not answer the example: {problem}")
    return _draft_of(inspection, problem=f"{problem}; give an example with --example arrays.npz")


def _checked(name: str, inspection: Inspection, example: ExampleFile, folder: Path) -> ModelDraft:
    runner = declared_runner(folder, name=name)(LimitSettings())
    runner.load_model(msgspec.structs.replace(check.ON_CPU, threads=os.cpu_count() or 1))
    source = InputMembers({"file": InputFile(example.content)}) if example.member == "file" else example.content
    started = time.monotonic()
    product = check.answered(runner, source)
    took_s = time.monotonic() - started
    extension, content = check.stored_form(product)
    answer = f"answer.{extension}"
    (folder / example.name).write_bytes(example.content)
    (folder / answer).write_bytes(content)
    definition = read_definition(folder)
    section = msgspec.structs.replace(definition.check, input=example.name, answer=answer)
    _write(msgspec.structs.replace(definition, check=section), inspection, folder)
    data = {name: value for name, value in (product.data or {}).items() if name != "guessed"}
    file = answer if product.file is not None else ""
    return _draft_of(inspection, example=example.name, answer=data or None, answer_file=file, answer_s=took_s)


def _draft_of(inspection: Inspection, **rest: Any) -> ModelDraft:
    return ModelDraft(
        kind=inspection.definition.kind,
        inputs=inspection.inputs,
        outputs=inspection.outputs,
        known=inspection.known,
        guessed=inspection.guessed,
        said=inspection.said,
        **rest,
    )
