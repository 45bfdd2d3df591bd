"""Builds the stand-ins: C sources of ours, and a do-nothing for each other function that the provider asks for."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

SOURCES = Path(__file__).parent / "libraries"

FLAGS = ["-w", "-O2", "-fPIC", "-shared", "-std=gnu99", "-pthread"]


class Library(NamedTuple):
    """A shared library, the functions that belong to it, its sources and the libraries it needs."""

    soname: str
    functions: str
    sources: tuple[str, ...]
    needs: tuple[str, ...] = ()


RUNTIME = "libcudart.so.13"
LIBRARIES = [
    Library(RUNTIME, "_*cuda[A-Z]", ("cudart_device.c", "cudart_memory.c", "cudart_copies.c", "cudart_launches.c")),
    Library("libcuda.so.1", "cu[A-Z]", ("cuda.c",)),
    Library("libcublas.so.13", "cublas(?!Lt)", ("handles.c",)),
    Library("libcublasLt.so.13", "cublasLt", ("handles.c",)),
    Library("libcurand.so.10", "curand", ("handles.c",)),
    Library("libcudnn.so.9", "cudnn", ("cudnn.c",), (RUNTIME,)),
    Library("libnvidia-ml.so.1", "nvml", ("nvml.c",)),
]


def build(cc: list[str], provider: Path, into: Path) -> None:
    """Build all stand-ins for this CUDA provider of ONNX Runtime with a C compiler. Raises CalledProcessError."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    wanted = functions_of(provider)
    for library in LIBRARIES:
        _build(cc, library, [name for name in wanted if re.match(library.functions, name)], into)


def functions_of(provider: Path) -> list[str]:
    """The functions that the provider links to, and those of cuDNN, which it looks up by name when it runs."""
    with provider.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".dynsym").iter_symbols()
        linked = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF"}
        constants = elf.get_section_by_name(".rodata").data()
    looked_up = {name.decode() for name in re.findall(rb"(?<!\w)(cudnn[A-Z]\w+)\0", constants)}
    return sorted(linked | looked_up)


def _build(cc: list[str], library: Library, functions: list[str], into: Path) -> None:
    rest, versions = into / f"{library.soname}.c", into / f"{library.soname}.map"
    # Weak, so that a function of the same name in our sources takes its place.
    rest.write_text("".join(f"__attribute__((weak)) int {name}() {{ return 0; }}\n" for name in functions))
    versions.write_text(f"{library.soname.replace('-', '_')} {{ global: *; }};\n")
    sources = [SOURCES / name for name in library.sources] + [rest] + [into / name for name in library.needs]
    link = [f"-Wl,-soname,{library.soname}", f"-Wl,--version-script,{versions}", "-Wl,-rpath,$ORIGIN"]
    argv = [*cc, *FLAGS, *link, "-o", str(into / library.soname), *map(str, sources)]
    subprocess.run(argv, check=True)
