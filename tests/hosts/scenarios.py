"""The table of scenarios between hosts."""

from msgspec.structs import replace

from tests.chaos import failovers as fleets
from tests.chaos.report import Bar
from tests.chaos.runner import Scenario
from tests.chaos.scenarios import ALL_DONE, FAILED_OVER, NO_TAKEOVER, TAKEN_OVER, TOLD
from tests.chaos.world import Setup
from tests.hosts import client_faults as client
from tests.hosts import failovers as failover
from tests.hosts import redis_faults as redis
from tests.hosts import server_faults as server
from tests.hosts import worker_faults as worker
from tests.hosts.site import Site

SITE = Setup(workers=3, apis=2, s3=True)

TAKEN_OVER_ONCE = (
    *ALL_DONE,
    Bar("interrupted", ">=", 1),
    Bar("reclaim_max_s", "<=", 10.0),
    Bar("late", ">=", 1),
    Bar("workers_died", "==", 0),
)
"""The tasks of the worker were claimed again in time, and what it did for them afterwards was stopped or refused."""

ANSWERED = (Bar("refused_wrong", "==", 0), Bar("hung", "==", 0), Bar("not_ready", ">=", 1))
"""Every answer came, a refusal said when to come again, and `/readyz` said it too."""

NAMED = (Bar("up", "==", 0), Bar("doctor_status", ">=", 1), Bar("doctor_names", "==", 1))
"""The metric of the dependency said so, and `penstock doctor` named it."""

REDIS_CUT = (*ALL_DONE, *ANSWERED, *NAMED, Bar("refused_right", ">=", 1), Bar("answer_max_s", "<=", 5.0))

SCENARIOS: dict[str, Scenario[Site]] = {
    s.id: s
    for s in (
        Scenario(
            id="N1",
            title="a worker host is cut off, silently, for three leases",
            run=worker.cut_off,
            bars=TAKEN_OVER_ONCE,
            setup=SITE,
        ),
        Scenario(
            id="N2",
            title="nothing comes from a worker host for three leases, but it hears the others",
            run=worker.unheard,
            bars=TAKEN_OVER_ONCE,
            setup=SITE,
        ),
        Scenario(
            id="N3",
            title="a worker host hears nothing for three leases, but the others hear it",
            run=worker.deaf,
            bars=TAKEN_OVER_ONCE,
            setup=SITE,
        ),
        Scenario(
            id="N4",
            title="32 KiB/s to and from a worker host for three leases",
            run=worker.slow,
            bars=(*ALL_DONE, Bar("workers_died", "==", 0)),
            setup=SITE,
        ),
        Scenario(
            id="N5",
            title="30 % of the packets between any two hosts are lost, and a round trip takes 100 ms",
            run=worker.lossy,
            bars=(*ALL_DONE, Bar("workers_died", "==", 0)),
            short_tasks=100,
            setup=SITE,
        ),
        Scenario(
            id="N6",
            title="the power of a worker host fails for 10 s",
            run=worker.rebooted,
            bars=(*ALL_DONE, Bar("interrupted", ">=", 1), Bar("reclaim_max_s", "<=", 10.0)),
            setup=SITE,
        ),
        Scenario(
            id="N7",
            title="the clock of a worker host is ten minutes ahead, that of an API host as much behind",
            run=worker.nothing,
            bars=(*ALL_DONE, *NO_TAKEOVER),
            setup=SITE,
            place=worker.wrong_clocks,
        ),
        Scenario(
            id="N8",
            title="the host of Redis is cut off from all others for 20 s",
            run=server.redis_cut_from_all,
            bars=(*REDIS_CUT, *NO_TAKEOVER, Bar("recovery_max_s", "<=", 5.0), Bar("ready_after_s", "<=", 5.0)),
            setup=SITE,
        ),
        Scenario(
            id="N9",
            title="the host of Redis is cut off from one API of two for 20 s",
            run=server.redis_cut_from_api,
            bars=(*REDIS_CUT, *NO_TAKEOVER, Bar("ready_after_s", "<=", 5.0)),
            setup=SITE,
        ),
        Scenario(
            id="N10",
            title="the power of the host of Redis fails for 10 s",
            run=server.redis_rebooted,
            bars=(*ALL_DONE, *NO_TAKEOVER, Bar("request_max_s", "<=", 5.0), Bar("recovery_max_s", "<=", 5.0)),
            setup=SITE,
        ),
        Scenario(
            id="N11",
            title="the power of the host of one API of two fails for 10 s",
            run=server.api_rebooted,
            bars=(*ALL_DONE, *NO_TAKEOVER),
            setup=SITE,
        ),
        Scenario(
            id="N12",
            title="the storage is cut off from one worker host for 20 s",
            run=server.s3_cut_from_worker,
            bars=(
                *ALL_DONE,
                *NO_TAKEOVER,
                Bar("inferences", "==", "tasks"),
                Bar("all_done_after_s", "<=", 30.0),
            ),
            setup=SITE,
        ),
        Scenario(
            id="N13",
            title="the storage is cut off from one API of two for 20 s",
            run=server.s3_cut_from_api,
            bars=(*ALL_DONE, *ANSWERED, *NAMED, *NO_TAKEOVER, Bar("ready_after_s", "<=", 10.0)),
            setup=SITE,
        ),
        Scenario(
            id="N14",
            title="the path of 20 event streams and 20 waits to an API dies silently",
            run=client.clients_vanish,
            bars=(*ALL_DONE, Bar("freed_s", "<=", 150.0)),
            tasks=50,
            short_tasks=50,
            setup=SITE,
        ),
        Scenario(
            id="N15",
            title="a firewall before Redis and the storage forgets all connections, three times",
            run=client.firewall_forgets,
            bars=(*ALL_DONE, *NO_TAKEOVER, Bar("recovery_max_s", "<=", 5.0), Bar("pause_max_s", "<=", 5.0)),
            setup=SITE,
        ),
        Scenario(
            id="N16",
            title="the host of one of two receivers of webhooks is cut off for 20 s",
            run=client.receiver_cut_off,
            bars=(*TOLD, Bar("told", "==", "tasks"), Bar("others_p95_s", "<=", 2.0)),
            setup=replace(SITE, env=client.HOOKS),
        ),
        Scenario(
            id="N17",
            title="the power of the host of Redis fails, with `appendfsync always`",
            run=redis.power_cut,
            bars=(*ALL_DONE, Bar("gone", "==", 0), Bar("workers_died", "==", 0)),
            setup=SITE,
            place=redis.synced("always"),
        ),
        Scenario(
            id="N18",
            title="the power of the host of Redis fails, with `appendfsync everysec`",
            run=redis.power_cut,
            bars=(
                Bar("cut_bytes", ">=", 1),
                Bar("gone_that_were_older", "==", 0),
                Bar("gone_later", "==", 0),
                Bar("workers_died", "==", 0),
                Bar("http_500", "==", 0),
            ),
            setup=SITE,
            place=redis.synced("everysec"),
        ),
        Scenario(
            id="N19",
            title="somebody empties Redis",
            run=redis.emptied,
            bars=(Bar("said_gone", "==", "known_before"), Bar("workers_died", "==", 0), Bar("done", ">=", 20)),
            setup=SITE,
        ),
        Scenario(
            id="N20",
            title="Redis has no connection left for 10 s",
            run=redis.no_connection_left,
            bars=(
                *ALL_DONE,
                Bar("taken", ">=", 10),
                Bar("refused_wrong", "==", 0),
                Bar("hung", "==", 0),
                Bar("workers_died", "==", 0),
                Bar("recovery_max_s", "<=", 5.0),
            ),
            setup=SITE,
        ),
        Scenario(
            id="N21",
            title="the host of the master that three sentinels watch is cut off, and comes back",
            run=failover.master_cut_off,
            bars=FAILED_OVER,
            setup=replace(SITE, fleet=fleets.sentinels),
        ),
        Scenario(
            id="N22",
            title="the host of the cluster node that has our keys is cut off, and comes back",
            run=failover.master_cut_off,
            bars=FAILED_OVER,
            setup=replace(SITE, fleet=fleets.cluster),
        ),
        Scenario(
            id="N23",
            title="the same as N21, with an API on the side of the old master, and `redis.wait_replicas = 1`",
            run=failover.cut_off_with_an_api,
            bars=(*TAKEN_OVER, Bar("lost", "==", 0), Bar("lost_of_it", "==", 0), Bar("refused_right", ">=", 1)),
            setup=replace(SITE, fleet=fleets.sentinels, env={"REDIS_WAIT_REPLICAS": "1"}),
        ),
    )
}

SHORT = tuple(SCENARIOS)
