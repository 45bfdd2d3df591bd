"""The loop without a server: reads how many tasks to run, a number in each line, and writes the milliseconds of each,
the CPU seconds of all, and an answer, as a line of JSON. It ends with its input."""

import base64
import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from tools.compare.peers.work import Body, work_of_environment


def main(photos: list[str]) -> None:
    """Runs tasks on these files in turn."""
    work = work_of_environment()
    images: list[Body] = [{"image": base64.b64encode(Path(photo).read_bytes()).decode()} for photo in photos]
    bodies = cycle(images or [{"x": 1}])
    for line in sys.stdin:
        took_ms, cpu_s, answer = [], time.process_time(), None
        for body in islice(bodies, int(line)):
            began = time.perf_counter()
            answer = work(body)
            took_ms.append((time.perf_counter() - began) * 1000)
        told = {"took_ms": took_ms, "cpu_s": time.process_time() - cpu_s, "answer": answer}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
