"""The collector of garbage after a start."""

import subprocess
import sys

COMMAND = """
import gc, sys
from penstock.__main__ import main
sys.argv = ["penstock", "--version"]
usual, frozen = gc.get_threshold(), gc.get_freeze_count()
try:
    main()
except SystemExit:
    print(gc.get_threshold() == usual, gc.get_freeze_count() - frozen > 10_000)
"""


def test_a_process_collects_as_usual_after_its_start_and_looks_no_more_at_what_that_has_made() -> None:
    found = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "True True"
