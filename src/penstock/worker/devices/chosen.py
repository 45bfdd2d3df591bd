"""Which GPUs of a host are used, and by how many workers: `GPU_IDS`, or what CUDA_VISIBLE_DEVICES leaves."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.worker.devices.nvidia_smi import Gpu, Listing

WAY_OUT = "mend that, or set GPU_IDS=cpu to run on the CPU"


class Choice(Struct, frozen=True):
    """A GPU and how many workers share it."""

    gpu: Gpu
    workers: int = 1


def automatic(listing: Listing, visible: str | None) -> list[Choice]:
    """Every GPU, also those that are lost now; of those, the ones that CUDA_VISIBLE_DEVICES names, if it is set.

    Raises ConfigurationError when none can be used.
    """
    gpus = listing.gpus if visible is None else tuple(_visible(listing.gpus, visible))
    if any(gpu.uuid for gpu in gpus):
        return [Choice(gpu) for gpu in gpus]
    hides = bool(listing.gpus) and not gpus
    cause = f'CUDA_VISIBLE_DEVICES="{visible}" names no GPU that is here' if hides else _cause(gpus, listing.problem)
    raise ConfigurationError(
        f"worker.gpu_ids: auto finds no GPU that can be used, and nothing falls back to the CPU since onnxruntime-gpu "
        f"is installed: {cause}; {WAY_OUT}"
    )


def named(listing: Listing, gpu_ids: str) -> list[Choice]:
    """The GPUs of a list such as `0,1x2,GPU-5d5b,MIG-c6d4`. The number of a GPU with MIG stands for all its instances.

    Raises ConfigurationError when one is not there or is listed twice, or when none can be used.
    """
    choices: list[Choice] = []
    for entry in (part.strip() for part in gpu_ids.split(",")):
        name, _, count = entry.partition("x")
        taken = [choice.gpu for choice in choices]
        found = _matching(listing.gpus, name) or _may_mean(listing.gpus, name, taken)
        if not found:
            raise _not_here(listing, name)
        for gpu in found:
            if gpu in taken:
                raise ConfigurationError(
                    f"worker.gpu_ids: names GPU {name} twice; for two workers on it write {name}x2"
                )
            choices.append(Choice(gpu, int(count or 1)))
    if not any(choice.gpu.uuid for choice in choices):
        cause = _cause([choice.gpu for choice in choices], listing.problem)
        raise ConfigurationError(f"worker.gpu_ids: no GPU of {gpu_ids} can be used: {cause}; {WAY_OUT}")
    return choices


def _visible(gpus: Sequence[Gpu], visible: str) -> Iterator[Gpu]:
    """As CUDA reads the variable: the list ends at the first entry that names no GPU. One that may mean a lost GPU does
    not end it."""
    seen: list[Gpu] = []
    for entry in (part.strip() for part in visible.split(",")):
        found = _matching(gpus, entry) or _may_mean(gpus, entry, seen)
        if not found:
            return
        fresh = [gpu for gpu in found if gpu not in seen]
        seen += fresh
        yield from fresh


def _matching(gpus: Sequence[Gpu], name: str) -> list[Gpu]:
    """The GPU of a number or of the unambiguous beginning of a UUID; all instances of a GPU with MIG."""
    if name.isdigit():
        return [gpu for gpu in gpus if gpu.number == str(int(name))]
    found = [gpu for gpu in gpus if name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)]
    return found if len(found) == 1 else []


def _may_mean(gpus: Sequence[Gpu], name: str, taken: Sequence[Gpu]) -> list[Gpu]:
    """The lost GPU that an entry may mean: the driver does not say its UUID, and may not say its number."""
    lost = [gpu for gpu in gpus if not gpu.uuid and gpu not in taken]
    if name.isdigit():
        return [gpu for gpu in lost if not gpu.number.isdigit()][:1]
    is_unknown = name.startswith("GPU-") and not any(gpu.uuid.startswith(name) for gpu in gpus)
    return lost[:1] if is_unknown else []


def _not_here(listing: Listing, name: str) -> ConfigurationError:
    here = ", ".join(f"GPU {_title(gpu)}" for gpu in listing.gpus) or "none"
    because = f", and {listing.problem}" if listing.problem else ""
    return ConfigurationError(f"worker.gpu_ids: there is no GPU {name} here (found: {here}){because}")


def _cause(gpus: Sequence[Gpu], problem: str) -> str:
    troubles = [f"GPU {gpu.number}: {gpu.trouble}" for gpu in gpus if gpu.trouble]
    return "; ".join([*troubles, *([problem] if problem else [])])


def _title(gpu: Gpu) -> str:
    return f"{gpu.number} ({gpu.uuid})" if gpu.instance else gpu.number
