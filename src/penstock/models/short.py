"""The short contract: `prepare(input_data)` gives a tensor, `infer(tensor)` an output, `postprocess(output)` a result.

A class that writes any of its methods so is served by an adapter with the full contract, around an object of its own:
what the class calls of itself stays as it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import new_class
from typing import Any, ClassVar

from penstock.core.device import Device
from penstock.core.model import SOLE_IMAGE, Member, sole_image_of
from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Outputs, Params, Product, Work
from penstock.models.members import InputFile, InputMembers, bounds_for, size_of
from penstock.models.signatures import Form
from penstock.pixels.headers import probe
from penstock.settings import LimitSettings

TENSOR_BYTES = 12
"""What a task is expected to take for each pixel of an image behind its decoding: three values as fp32."""


class ShortContract(BaseModelRunner[Any]):
    """The full contract over an object of the class `own`, whose methods have these `forms`."""

    own: ClassVar[type[BaseModelRunner[Any]]]
    forms: ClassVar[Mapping[str, Form]]
    inputs: ClassVar[Mapping[str, Member]]

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits
        self._own = self.own.__new__(self.own)
        self._own.limits = limits  # also for a class whose __init__ does not pass it on
        self._own.__init__(*([] if self._is_short("__init__") else [limits]))  # type: ignore[misc]

    def load_model(self, device: Device) -> None:
        self._own.load_model(*([] if self._is_short("load_model") else [device]))

    def unload(self) -> None:
        self._own.unload()

    def warmup(self) -> Iterable[Work]:
        return self._own.warmup()

    def interrupt(self, work: Work) -> None:
        self._own.interrupt(work)

    def memory_needed(self, source: Any, params: Params) -> int:
        """What the class says; else the bytes of the input, and of the images of its members what decoding takes, and
        TENSOR_BYTES for each pixel."""
        if self.own.memory_needed is not BaseModelRunner.memory_needed:
            return self._own.memory_needed(self._input(source, params), params)
        if not self.inputs:
            return size_of(source)
        members = self._members(source, params)
        images = [members[name] for name, m in self.inputs.items() if m.kind == "image" and name in members]
        bounds = bounds_for(self.limits, params)
        headers = [probe(image, bounds) for image in images]
        pixels = sum(header.width * header.height for header in headers)
        return size_of(members) + sum(header.decoding_bytes for header in headers) + pixels * TENSOR_BYTES

    def prepare(self, source: Any, params: Params) -> Work:
        given = self._input(source, params)
        if not self._is_short("prepare"):
            return self._own.prepare(given, params)
        given.params = params
        tensor: Any = self._own.prepare(given)  # type: ignore[call-arg]
        return Work([tensor])

    def infer(self, tiles: Any, work: Work) -> Outputs:
        if self._is_short("infer"):
            return [self._own.infer(tensor) for tensor in tiles]  # type: ignore[call-arg]
        return self._own.infer(tiles, work)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        if not self._is_short("postprocess"):
            return self._own.postprocess(work, params, output)
        return self._own.postprocess(work.outputs[0] if work.count == 1 else work.outputs)  # type: ignore[call-arg,arg-type]

    def _is_short(self, method: str) -> bool:
        return self.forms[method] == "short"

    def _input(self, source: Any, params: Params) -> Any:
        return self._members(source, params) if self.inputs else source

    def _members(self, source: Any, params: Params) -> InputMembers:
        if isinstance(source, InputMembers):
            return source
        name = sole_image_of(self.inputs) or SOLE_IMAGE
        image = InputFile(source, bounds=bounds_for(self.limits, params))
        return InputMembers({name: image}, name)


def adapted(cls: type[BaseModelRunner[Any]], forms: Mapping[str, Form]) -> type[BaseModelRunner[Any]]:
    """The class itself where all its methods have the full form, else a subclass of it that has, and all its class
    attributes too."""
    if all(form == "full" for form in forms.values()):
        return cls
    is_short = {method: form == "short" for method, form in forms.items()}
    members = {
        "own": cls,
        "forms": dict(forms),
        "inputs": cls.inputs or ({SOLE_IMAGE: Member()} if is_short["prepare"] else {}),
        "one_at_a_time": cls.one_at_a_time or is_short["infer"],
        **{name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")},
    }
    return new_class(cls.__name__, (ShortContract, cls), exec_body=lambda namespace: namespace.update(members))
