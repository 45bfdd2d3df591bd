"""A program `nvidia-smi` whose answers a test gives, and a runtime for GPUs as far as it looks installed."""

import json
import os
import sys
from pathlib import Path

PROGRAM = f"""#!{sys.executable} -S
import json, sys, time
answer = json.load(open(__file__ + ".json"))
time.sleep(answer["after_s"])
query = [a.partition("=")[2].split(",") for a in sys.argv if a.startswith("--query-gpu=")]
if query and answer["rows"]:
    answer["prints"] = "".join(", ".join(row.get(f, "[N/A]") for f in query[0]) + "\\n" for row in answer["rows"])
sys.stdout.write(answer["prints"] if query else answer["listing"])
sys.exit(answer["status"])
"""


class NvidiaSmi:
    """The tool in a directory of its own, for the front of a PATH. At first it lists no GPU."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.program = directory / "nvidia-smi"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        self.answers()

    def environment(self) -> dict[str, str]:
        """The PATH with which the tool is found first."""
        return {"PATH": os.pathsep.join([str(self.directory), os.environ["PATH"]])}

    def lists(self, *uuids: str, memory_mib: int = 15360, **fields: str) -> None:
        """List GPUs that are well. `fields` are more that may be asked for, with `_` for each dot in their names."""
        more = {name.replace("_", "."): value for name, value in fields.items()} | {"memory.total": str(memory_mib)}
        rows = [more | {"index": str(number), "uuid": uuid} for number, uuid in enumerate(uuids)]
        listing = "".join(f"GPU {row['index']}: stand-in (UUID: {row['uuid']})\n" for row in rows)
        self._write(rows=rows, listing=listing)

    def answers(self, prints: str = "", *, listing: str = "", status: int = 0, after_s: float = 0.0) -> None:
        """Answer with these words to a query, and with `listing` to `-L`, after so many seconds."""
        self._write(prints=prints, listing=listing, status=status, after_s=after_s)

    def _write(self, **answer: object) -> None:
        whole = {"rows": [], "prints": "", "listing": "", "status": 0, "after_s": 0.0} | answer
        # At once, since the tool may be asked at this moment.
        fresh = self.program.with_suffix(".new")
        fresh.write_text(json.dumps(whole))
        fresh.replace(self.program.with_suffix(".json"))


def install_gpu_runtime(directory: Path) -> None:
    """Lets onnxruntime-gpu look installed where this directory is on the path of Python."""
    info = directory / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
