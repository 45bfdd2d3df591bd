"""The metrics of several processes as those of one; each process is a real server of metrics."""

import socket
import threading
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from penstock.telemetry.exposition import serve_collector
from penstock.telemetry.summed import STARTED, Summed, merged


class CountingProcess(Collector):
    """A process that counts requests, and serves what it counts."""

    def __init__(self, requests: int, *, started: float, depth: int | None = None, is_up: bool = True) -> None:
        self.requests, self.started, self.depth, self.is_up = requests, started, depth, is_up
        self.answers = True
        self.url = f"http://127.0.0.1:{serve_collector('127.0.0.1', 0, self)}/metrics"

    def collect(self) -> Iterable[Metric]:
        if not self.answers:
            return
        requests = CounterMetricFamily("requests", "requests", labels=["route"])
        requests.add_metric(["/v1/tasks"], self.requests)
        seconds = HistogramMetricFamily("seconds", "their time")
        seconds.add_metric([], [("1.0", self.requests), ("+Inf", self.requests + 1)], sum_value=0.5)
        yield from (requests, seconds)
        yield GaugeMetricFamily("penstock_connections", "open", self.requests)
        yield GaugeMetricFamily("penstock_store_up", "reached", float(self.is_up))
        yield GaugeMetricFamily(STARTED, "start", self.started)
        if self.depth is not None:
            yield GaugeMetricFamily("penstock_queue_depth", "depth", self.depth)


def shown(summed: Summed) -> dict[str, float]:
    """The values by the name of the sample, and the bound of a bucket."""
    samples = [sample for family in summed.collect() for sample in family.samples]
    assert len(samples) == len({(one.name, *one.labels.values()) for one in samples})
    return {one.name + one.labels.get("le", ""): one.value for one in samples}


def test_counters_and_histograms_are_added_and_what_all_see_is_shown_once() -> None:
    first, second = CountingProcess(3, started=100), CountingProcess(4, started=99, depth=7, is_up=False)

    found = shown(Summed(lambda: [first.url, second.url]))

    assert found["requests_total"] == 7
    assert found["seconds_bucket1.0"] == 7
    assert found["seconds_count"] == 9
    assert found["seconds_sum"] == 1
    assert found["penstock_connections"] == 7
    assert found["penstock_queue_depth"] == 7
    assert found["penstock_store_up"] == 0
    assert found[STARTED] == 99


def test_of_the_exemplars_of_several_processes_the_newest_is_shown() -> None:
    parts: list[list[Metric]] = []
    for trace, at in (("older", 1.0), ("newest", 3.0), ("old", 2.0)):
        buckets = [("1.0", 1, Exemplar({"trace_id": trace}, 0.5, at)), ("+Inf", 1)]
        parts.append([HistogramMetricFamily("seconds", "their time", buckets, sum_value=0.5)])

    (family,) = merged(parts)
    (bucket,) = [sample for sample in family.samples if sample.labels.get("le") == "1.0"]

    assert bucket.value == 3
    assert bucket.exemplar == Exemplar({"trace_id": "newest"}, 0.5, 3.0)


def test_what_a_process_counted_before_its_end_stays_in_the_sum() -> None:
    first, second = CountingProcess(3, started=100), CountingProcess(4, started=100)
    living = [first.url, second.url]
    summed = Summed(lambda: living)
    shown(summed)

    living.remove(first.url)
    gone = shown(summed)
    living.append(CountingProcess(1, started=200).url)
    replaced = shown(summed)

    assert (gone["requests_total"], gone["seconds_count"], gone["penstock_connections"]) == (7, 9, 4)
    assert (replaced["requests_total"], replaced["seconds_count"], replaced["penstock_connections"]) == (8, 11, 5)


def test_a_process_at_the_port_of_one_that_ended_is_another_one() -> None:
    process = CountingProcess(3, started=100)
    summed = Summed(lambda: [process.url])
    shown(summed)

    process.requests, process.started = 5, 200

    assert shown(summed)["requests_total"] == 8


def test_a_process_that_dies_while_it_answers_is_left_out() -> None:
    living = CountingProcess(3, started=100)
    with socket.create_server(("127.0.0.1", 0)) as dying:
        thread = threading.Thread(target=answer_a_part, args=[dying])
        thread.start()
        found = shown(Summed(lambda: [living.url, f"http://127.0.0.1:{dying.getsockname()[1]}/metrics"]))
        thread.join()

    assert found["requests_total"] == 3


def answer_a_part(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nrequests_total")


def test_a_process_that_does_not_answer_counts_as_at_the_last_scrape() -> None:
    first, second = CountingProcess(3, started=100), CountingProcess(4, started=100)
    summed = Summed(lambda: [first.url, second.url])
    shown(summed)

    second.answers = False

    assert shown(summed)["requests_total"] == 7
