"""A host with NVIDIA's driver and the runtime for GPUs, as far as the parent of the workers looks at it: a program
`nvidia-smi` that prints what a test wants, and the metadata of onnxruntime-gpu."""

import sys
from pathlib import Path

QUERY = ("--query-gpu=index,uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits")


def nvidia_smi(directory: Path, rows: str, status: int = 0, *, listed: str = "", waits_s: float = 0.0) -> None:
    """Writes a program that answers the query with these rows, and `-L` with `listed`, after a while."""
    script = directory / "nvidia-smi"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys, time\n"
        f"answers = {{{QUERY!r}: {rows!r}, ('-L',): {listed!r}}}\n"
        f"time.sleep({waits_s})\n"
        "sys.stdout.write(answers[tuple(sys.argv[1:])])\n"
        f"sys.stdout.flush()\n"
        f"sys.exit({status})\n"
    )
    script.chmod(0o755)


def install_runtime(directory: Path) -> None:
    """Lets onnxruntime-gpu look installed where this directory is on the path of Python."""
    info = directory / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
