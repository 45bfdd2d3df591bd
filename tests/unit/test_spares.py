"""Processes that are forked before their parent knows what they are for."""

import json
import subprocess
import sys

from msgspec.structs import replace

from penstock.local.spares import SpareProcess
from penstock.local.up import worker_children
from penstock.settings import Settings
from penstock.worker.devices import Placement, cpu

PARENT = """
import asyncio, os, signal, sys, threading
from pathlib import Path

os.environ["A_SECRET"] = "of the parent"

import penstock
from penstock.local.spares import Role, fork_spares

def run():
    print(json_of(), flush=True)
    sys.exit(7)

def json_of():
    import json, subprocess
    me = Path("/proc/self")
    return json.dumps({
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "shown": (me / "cmdline").read_text().replace("\\0", " ").strip(),
        "shown_environment": (me / "environ").read_text(),
        "passed": os.read(40, 100).decode(),
        "said": subprocess.run(["sh", "-c", "echo said >&2"], stderr=None).returncode,
        "umask": os.umask(0),
        "session": os.getsid(0) == os.getpid(),
        "parent": os.getppid(),
    })

async def main(spares):
    used, killed, unused = spares
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    role = Role(
        argv=[sys.executable, "-m", "penstock", "api-process", "--name", "api"],
        environment={"A_SETTING": "of the child"}, umask=0o077, fds=[0, 1, 2, 40], parent_died=15,
    )
    used.become(role, [0, 1, 2, reading])
    print(await used.wait(), used.is_unused, flush=True)
    os.kill(killed.pid, signal.SIGKILL)
    try:
        killed.become(role, [0, 1, 2, reading])
    except OSError:
        pass
    print(await killed.wait(), flush=True)
    unused.dismiss()
    print(await unused.wait(), os.getpid(), flush=True)

spares = fork_spares(3, run)
asyncio.run(main(spares))
threading.Thread(target=input, daemon=True).start()
print(len(fork_spares(1, run)))
"""


def test_a_spare_process_is_what_its_role_says_and_nothing_else() -> None:
    command = [sys.executable, "-c", PARENT, *(["so that there is room"] * 20)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        told, *lines = parent.stdout.read().splitlines()
    child = json.loads(told)

    ended, was_killed, dismissed, beside_a_thread = lines
    assert ended == "7 False"
    assert was_killed == "-9"
    assert dismissed == f"0 {child['parent']}"
    assert beside_a_thread == "0", "locks that a thread holds would be held for ever"
    assert child["arguments"] == ["api-process", "--name", "api"]
    assert child["environment"]["A_SETTING"] == "of the child"
    assert "A_SECRET" not in child["environment"]
    assert "A_SECRET" not in child["shown_environment"]
    assert child["shown"] == f"{sys.executable} -m penstock api-process --name api"
    assert (child["passed"], child["umask"], child["session"]) == ("through a pipe", 0o077, True)
    assert child["said"] == 0, "a program that it starts has its stderr"


LATER = """
import asyncio, os, sys, time
from penstock.local.spares import Role, fork_spares

async def main(first, later):
    role = Role(argv=[sys.executable, "-m", "penstock"], environment={}, umask=-1, fds=[0, 1, 2], parent_died=15)
    later.become(role, [0, 1, 2])
    first.dismiss()
    print(await asyncio.wait_for(first.wait(), 20), flush=True)
    os.kill(later.pid, 9)
    await later.wait()

asyncio.run(main(*fork_spares(1, sys.exit), *fork_spares(1, lambda: time.sleep(60))))
"""


def test_a_spare_process_ends_when_it_is_dismissed_though_another_that_was_forked_later_runs() -> None:
    assert subprocess.check_output([sys.executable, "-c", LATER], text=True) == "0\n"


def test_the_modules_that_are_shared_start_no_thread() -> None:
    program = (
        "import os, penstock.local.up\n"
        "from penstock.local.spares import import_shared\n"
        "import_shared('penstock.api.serve')\n"
        "print(len(os.listdir('/proc/self/task')))"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"


def test_a_worker_on_a_gpu_is_executed_and_one_on_a_cpu_is_made_of_a_spare_process() -> None:
    spare = SpareProcess(0, 0)
    gpu = Placement(device=replace(cpu(1), name="cuda:0", kind="cuda"), environment={}, lost="it is away")

    children = worker_children(Settings(), [gpu, Placement(device=cpu(1), environment={})], [spare])

    assert [child.spare for child in children] == [None, spare]
