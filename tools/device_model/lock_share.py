"""How much of the time some thread of a process holds the interpreter's lock, as py-spy sees it."""

import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLES_PER_S = 200


def lock_share(pid: int, seconds: float) -> float | None:
    """The share of samples in which a thread holds the lock; None where there is no py-spy, or it may not look."""
    tool = Path(sys.executable).with_name("py-spy")
    if not tool.exists():
        return None
    with tempfile.NamedTemporaryFile(suffix=".raw") as out:
        command = [str(tool), "record", "--gil", "--nonblocking", "--format", "raw", "--output", out.name]
        command += ["--pid", str(pid), "--rate", str(SAMPLES_PER_S), "--duration", str(max(1, round(seconds)))]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        samples = sum(int(line.rpartition(" ")[2]) for line in Path(out.name).read_text().splitlines())
    return samples / (SAMPLES_PER_S * max(1, round(seconds)))
