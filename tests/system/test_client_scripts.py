"""The Python client in the programs that people write: generators, threads, forked processes and pools. Each is a
process of its own against a whole `penstock up`, and has hung if it does not end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from penstock.settings import clean_environment
from tests.support.drive import image
from tests.support.lengths import at_length
from tests.support.processes import System, up

LONGEST_S = 120
"""A program that has not ended by then never will."""

FORK_WARNING = "This process"
"""How Python 3.12 and later begin to say that a process with threads is forked, which is what is tried here."""

PREAMBLE = """
import asyncio, base64, gc, io, multiprocessing, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from penstock import AsyncClient, Client, PenstockApiError
from PIL import Image
MODEL = "noop-v1"

def picture(n):
    with io.BytesIO() as file:
        Image.new("RGB", (1, 1), (n // 65536, n // 256 % 256, n % 256)).save(file, "PNG")
        return file.getvalue()

def number(source):
    with Image.open(io.BytesIO(source)) as image:
        red, green, blue = image.getpixel((0, 0))
        return red * 65536 + green * 256 + blue
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A worker with the model that does nothing."""
    environ = {"GPU_IDS": "cpu", "PENSTOCK_MODELS_MODULES": "penstock.models.noop", "PENSTOCK_MODELS_SERVE": "noop-v1"}
    with up(tmp_path_factory.mktemp("up"), RATE_LIMIT_PER_MINUTE="100000", **environ) as running:
        yield running


def printed_by(system: System, program: str) -> list[str]:
    """The lines that a program prints, which has to end well and to say nothing on stderr."""
    with subprocess.Popen(
        [sys.executable, "-W", f"ignore:{FORK_WARNING}:DeprecationWarning", "-c", PREAMBLE + dedent(program)],
        env=clean_environment() | {"PENSTOCK_URL": system.url, "PENSTOCK_API_KEY": system.api_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            pytest.fail(f"it hangs, after it has printed:\n{out}{err}")
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def test_map_takes_a_generator_that_uses_the_same_client(system: System) -> None:
    program = """
        with Client() as client:
            uploads = (client.upload(picture(n)) for n in range(5))
            print(sum(one.task.succeeded for one in client.map(uploads, MODEL, concurrency=2)))
            print(client.stats().tasks["SUCCESS"] > 0)
    """

    assert printed_by(system, program) == ["5", "True"]


def test_a_generator_that_waits_holds_back_no_other_thread(system: System) -> None:
    program = """
        with Client() as client:
            looked = threading.Event()

            def sources():
                yield picture(1)
                assert looked.wait(30), "the other thread has had no answer while this generator waits"
                yield picture(2)

            def look():
                client.stats()
                looked.set()

            threading.Thread(target=look, daemon=True).start()
            print([one.error for one in client.map(sources(), MODEL)])
    """

    assert printed_by(system, program) == ["[None, None]"]


def test_results_are_given_before_a_generator_is_asked_for_more_than_there_is_room_for(system: System) -> None:
    program = """
        with Client() as client:
            taken = 0

            def sources():
                global taken
                while True:
                    taken += 1
                    yield picture(taken)

            mapped = client.map(sources(), MODEL, concurrency=3)
            for n in range(1, 8):
                assert next(mapped).error is None
                assert taken <= n + 2, (taken, n)
            mapped.close()
            print("endless")
    """

    assert printed_by(system, program) == ["endless"]


@pytest.mark.parametrize("kind", ["blocking", "asynchronous", "asynchronous with an iterable"])
def test_a_generator_that_raises_loses_none_of_the_tasks_before_it(system: System, kind: str) -> None:
    program = {
        "blocking": """
            def sources():
                yield from map(picture, range(3))
                raise KeyError("mine")

            done = []
            with Client() as client:
                try:
                    for one in client.map(sources(), MODEL):
                        done.append(number(one.source))
                except KeyError as error:
                    print(sorted(done), error)
        """,
        "asynchronous": """
            def sources():
                yield from map(picture, range(3))
                raise KeyError("mine")
        """,
        "asynchronous with an iterable": """
            async def sources():
                for one in map(picture, range(3)):
                    yield one
                raise KeyError("mine")
        """,
    }[kind]
    if kind != "blocking":
        program = dedent(program) + dedent("""
            async def main():
                done = []
                async with AsyncClient() as client:
                    try:
                        async for one in client.map(sources(), MODEL):
                            done.append(number(one.source))
                    except KeyError as error:
                        print(sorted(done), error)

            asyncio.run(main())
        """)

    assert printed_by(system, program) == ["[0, 1, 2] 'mine'"]


def test_an_async_client_maps_an_async_iterable(system: System) -> None:
    program = """
        async def main():
            async with AsyncClient() as client:
                async def sources():
                    for n in range(5):
                        yield await client.upload(picture(n))

                print([one.error async for one in client.map(sources(), MODEL, concurrency=2)])

        asyncio.run(main())
    """

    assert printed_by(system, program) == ["[None, None, None, None, None]"]


def test_a_generator_that_waits_holds_back_neither_the_loop_nor_what_has_ended(system: System) -> None:
    program = """
        looked, given = threading.Event(), threading.Event()

        def sources():
            yield picture(1)
            assert looked.wait(30), "the loop has done nothing while this generator waits"
            assert given.wait(30), "what has ended is held back while this generator waits"
            yield picture(2)

        async def main():
            async with AsyncClient() as client:
                async def look():
                    await client.stats()
                    looked.set()

                looking = asyncio.create_task(look())
                async for one in client.map(sources(), MODEL):
                    print(number(one.source), one.error)
                    given.set()
                await looking

        asyncio.run(main())
    """

    assert printed_by(system, program) == ["1 None", "2 None"]


def test_what_is_no_source_is_an_error_of_its_own_and_ends_no_other(system: System) -> None:
    program = """
        sources = [picture(1), 123, None, "nul\\0.png", "/nowhere.png", picture(2)]
        with Client() as client:
            for one in sorted(client.map(sources, MODEL), key=lambda one: sources.index(one.source)):
                print(type(one.error).__name__)
    """

    assert printed_by(system, program) == [
        "NoneType", "TypeError", "TypeError", "ValueError", "FileNotFoundError", "NoneType",
    ]  # fmt: skip


def test_sixteen_threads_share_one_client(system: System) -> None:
    program = """
        def work(n):
            tasks = [client.run(picture(100 * n + k), MODEL) for k in range(4)]
            mapped = list(client.map((picture(100 * n + k) for k in range(4, 8)), MODEL, concurrency=2))
            return sum(task.succeeded for task in tasks) + sum(one.error is None for one in mapped)

        with Client() as client, ThreadPoolExecutor(16) as pool:
            print(sum(pool.map(work, range(16))))
    """

    assert printed_by(system, program) == ["128"]


@pytest.mark.at_length
def test_an_iterator_that_is_collected_on_the_thread_of_the_client_holds_up_nobody(system: System) -> None:
    program = """
        class Collecting(str):
            \"\"\"A source: the client asks for its scheme where it works.\"\"\"
            def lower(self):
                gc.collect()
                return super().lower()

        with Client() as client:
            client.run(picture(1), MODEL)
            gc.disable()
            tasks = client.list()
            next(tasks)
            cycle = [tasks]
            cycle.append(cycle)
            del tasks, cycle
            client.submit(Collecting("data:;base64," + base64.b64encode(picture(1)).decode()), MODEL)
            print(client.stats().tasks["SUCCESS"] > 0)
    """

    assert printed_by(system, program) == ["True"]


def test_after_a_fork_the_child_and_the_parent_go_on(system: System) -> None:
    program = """
        with Client() as client:
            before = client.run(picture(1), MODEL)
            waiting = threading.Thread(target=lambda: client.get(client.submit(picture(2), MODEL).task_id, wait_s=1))
            waiting.start()
            pid = os.fork()
            if pid == 0:
                print("child", client.get(before.task_id).status, client.run(picture(3), MODEL).status, flush=True)
                client.close()
                os._exit(0)
            for n in range(3):
                assert client.run(picture(10 + n), MODEL).succeeded
            waiting.join()
            print("parent", os.waitpid(pid, 0)[1], client.get(before.task_id).status)
    """

    assert sorted(printed_by(system, program)) == ["child SUCCESS SUCCESS", "parent 0 SUCCESS"]


@pytest.mark.at_length
def test_a_child_that_leaves_as_any_program_does_leaves_the_parent_its_connections(system: System) -> None:
    program = """
        with Client() as client:
            followed = client.watch(client.submit(picture(4), MODEL).task_id)
            next(followed)
            waiting = threading.Thread(target=lambda: [client.run(picture(20 + n), MODEL) for n in range(20)])
            waiting.start()
            for n in range(5):
                if os.fork() == 0:
                    client.stats()
                    sys.exit(0)
            waiting.join()
            print([os.wait()[1] for n in range(5)], client.stats().tasks["SUCCESS"] >= 20)
    """

    assert printed_by(system, program)[-1] == "[0, 0, 0, 0, 0] True"


@pytest.mark.at_length
def test_an_async_client_goes_on_in_a_forked_child(system: System) -> None:
    program = """
        client = AsyncClient()
        print(asyncio.run(client.stats()).workers["READY"])
        pid = os.fork()
        if pid == 0:
            print(asyncio.run(client.stats()).workers["READY"], flush=True)
        else:
            print(os.waitpid(pid, 0)[1])
    """

    assert printed_by(system, program)[-2:] == ["1", "0"]


@pytest.mark.at_length
def test_what_is_mapped_is_not_gone_on_with_in_a_child(system: System) -> None:
    program = """
        with Client() as client:
            mapped = client.map(map(picture, range(40)), MODEL, concurrency=2)
            next(mapped)
            pid = os.fork()
            if pid == 0:
                try:
                    next(mapped)
                except RuntimeError as error:
                    print(error, flush=True)
                os._exit(0)
            print(sum(one.error is None for one in mapped), os.waitpid(pid, 0)[1])
    """

    (in_the_child, in_the_parent) = sorted(printed_by(system, program), reverse=True)
    assert "process" in in_the_child
    assert in_the_parent == "39 0"


@pytest.mark.parametrize("method", ["fork", *at_length("spawn", "forkserver")])
def test_a_pool_of_processes_gets_answers_and_errors(system: System, tmp_path: Path, method: str) -> None:
    """The same client before the fork, where there is one; a client of its own, where there is none."""
    (tmp_path / "photo.png").write_bytes(image())
    (tmp_path / "job.py").write_text(
        dedent("""
            from pathlib import Path
            from penstock import Client

            client = Client()
            photo = Path(__file__).with_name("photo.png")

            def job(n):
                task = client.run(photo, "noop-v1")
                return client.get(task.task_id if n % 2 else "tsk_nobody")
        """)
    )
    program = f"""
        sys.path.insert(0, {str(tmp_path)!r})
        from job import client, job

        def outcome(result):
            try:
                return result().status
            except PenstockApiError as error:
                return error.code, error.status, error.request_id is not None

        if __name__ == "__main__":
            client.stats()
            context = multiprocessing.get_context({method!r})
            with context.Pool(2) as pool:
                results = [pool.apply_async(job, (n,)) for n in range(4)]
                print([outcome(lambda: result.get(30)) for result in results])
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                results = [pool.submit(job, n) for n in range(4)]
                print([outcome(lambda: result.result(30)) for result in results])
            print(client.stats().workers["READY"])
    """

    outcomes = [("task_not_found", 404, True), "SUCCESS"] * 2
    assert printed_by(system, program) == [str(outcomes), str(outcomes), "1"]


def test_a_closed_client_says_so(system: System) -> None:
    program = """
        async def main():
            client = AsyncClient()
            await client.stats()
            await client.close()
            await client.close()
            try:
                await client.stats()
            except RuntimeError as error:
                print(error)

        client = Client()
        tasks, mapped = client.list(), client.map([picture(1)], MODEL)
        client.close()
        for use in (client.stats, lambda: next(tasks), lambda: next(mapped), lambda: client.submit(picture(1), MODEL)):
            try:
                use()
            except RuntimeError as error:
                print(error)
        asyncio.run(main())
    """

    assert printed_by(system, program) == ["this client is closed"] * 5


def test_a_client_that_is_closed_ends_the_calls_of_other_threads(system: System) -> None:
    program = """
        client = Client()
        client.pause_queue(MODEL)
        task_id = client.submit(picture(1), MODEL, reuse=False).task_id
        asked = threading.Event()

        def wait():
            asked.set()
            try:
                client.wait(task_id)
            except RuntimeError as error:
                print(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        asked.wait()
        time.sleep(0.3)
        client.close()
        waiting.join()
        with Client() as client:
            client.resume_queue(MODEL)
    """

    assert printed_by(system, program) == ["this client is closed"]
