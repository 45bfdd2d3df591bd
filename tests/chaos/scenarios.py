"""The table of scenarios: the faults, the number of tasks, and what must hold."""

from tests.chaos import api_faults as api
from tests.chaos import failovers as failover
from tests.chaos import overload
from tests.chaos import redis_faults as redis
from tests.chaos import storage_faults as storage
from tests.chaos import webhook_faults as webhook
from tests.chaos import worker_faults as worker
from tests.chaos.report import SOUND, Bar
from tests.chaos.runner import Scenario
from tests.chaos.world import Setup, World

ALL_DONE = (*SOUND, Bar("done", "==", "tasks"))
"""No promise is broken, and every task succeeded."""

NO_TAKEOVER = (Bar("attempts_lost", "==", 0), Bar("workers_died", "==", 0))
"""Every worker survived, and none was taken for dead."""

REFUSED_RIGHT = (Bar("other_answers", "==", 0), Bar("lost", "==", 0))
"""Every submit was accepted, and its task succeeded, or it was told to come again later, in the right words."""

TOLD = (*ALL_DONE, Bar("unverified", "==", 0))
"""Every task succeeded, and receivers could verify every message."""

SHORT_LEASE = {"QUEUE_LEASE_S": "1.5"}
MANY_CRASHES = {"QUEUE_MAX_CRASHES": "10"}
"""Where faults are so dense that one healthy task may meet three of them."""

TAKEN_OVER = (Bar("outage_s", "<=", 15.0), Bar("workers_died", "==", 0), Bar("http_500", "==", 0))
"""Submits were taken again in time, and no process had to be started anew."""

FAILED_OVER = (
    *TAKEN_OVER,
    Bar("done", "==", "tasks"),
    Bar("lost", "==", 0),
    Bar("went_back", "==", 0),
    Bar("ended_again", "<=", 4),
    Bar("unsound", "==", "ended_again"),
)
"""Nothing was lost but perhaps the ends of the last millisecond, which no client has seen: these tasks ran again."""

SCENARIOS: dict[str, Scenario[World]] = {
    s.id: s
    for s in (
        Scenario(
            id="W1",
            title="SIGKILL a random worker process every 2 s",
            run=worker.kill_children,
            bars=(
                *ALL_DONE,
                Bar("interrupted", ">=", 1),
                Bar("reclaim_p50_s", "<=", 1.0),
                Bar("reclaim_max_s", "<=", 3.0),
            ),
        ),
        Scenario(
            id="W2",
            title="SIGKILL a supervisor and its worker process every 5 s",
            run=worker.kill_hosts,
            bars=(*ALL_DONE, Bar("interrupted", ">=", 1), Bar("reclaim_max_s", "<=", 10.0)),
        ),
        Scenario(
            id="W3",
            title="freeze a worker for 1.5 leases, then let it go on (tasks: freezes)",
            run=worker.zombies,
            bars=(
                *ALL_DONE,
                Bar("freezes", "==", "trials"),
                Bar("zombies", ">=", "trials"),
                Bar("zombies_accepted", "==", 0),
            ),
            tasks=200,
            short_tasks=5,
            setup=Setup(env=SHORT_LEASE | MANY_CRASHES),
        ),
        Scenario(
            id="W4",
            title="the model holds the interpreter for two leases",
            run=worker.blocked_interpreter,
            bars=(*ALL_DONE, Bar("attempts_lost", "==", 0)),
            tasks=40,
            short_tasks=40,
        ),
        Scenario(
            id="W5",
            title="inference hangs for ever",
            run=worker.hang,
            bars=(
                *SOUND,
                Bar("timeouts", "==", "hanging"),
                Bar("failed", "==", "hanging"),
                Bar("timeout_late_max_s", "<=", 2.0),
            ),
        ),
        Scenario(
            id="W6",
            title="one task needs more memory than its worker may have",
            run=worker.out_of_memory,
            bars=(
                *ALL_DONE,
                Bar("kills", "==", 1),
                Bar("eater_crashes", "==", 1),
                Bar("back_s", "<=", 10.0),
            ),
        ),
        Scenario(
            id="W7",
            title="one task kills its process, each time",
            run=worker.poison,
            bars=(
                *SOUND,
                Bar("poison_deaths", "==", 3),
                Bar("poisoned", "==", 1),
                Bar("innocent_done", "==", "innocent"),
            ),
        ),
        Scenario(
            id="W7b",
            title="one task kills its process, and there is one worker only",
            run=worker.poison,
            bars=(
                *SOUND,
                Bar("poison_deaths", "==", 3),
                Bar("poisoned", "==", 1),
                Bar("innocent_done", "==", "innocent"),
            ),
            tasks=200,
            short_tasks=60,
            setup=Setup(workers=1),
        ),
        Scenario(
            id="W12",
            title="SIGTERM of every worker in turn, under load",
            run=worker.rolling_stop,
            bars=(
                *ALL_DONE,
                Bar("attempts_lost", "==", 0),
                Bar("attempts_retried", "==", 0),
                Bar("exits_bad", "==", 0),
                Bar("exit_max_s", "<=", 30.0),
            ),
        ),
        Scenario(
            id="W13",
            title="SIGTERM, SIGTERM, SIGKILL at random moments (tasks: trials)",
            run=worker.hasty_stop,
            bars=(*ALL_DONE, Bar("interrupted", ">=", 1)),
            tasks=200,
            short_tasks=10,
            setup=Setup(env=SHORT_LEASE | MANY_CRASHES),
        ),
        Scenario(
            id="W14",
            title="damaged model files",
            run=worker.damaged_model,
            bars=(*ALL_DONE, Bar("refused", "==", 2), Bar("claimed_by_damaged", "==", 0)),
            tasks=100,
            short_tasks=20,
            setup=Setup(workers=0),
        ),
        Scenario(
            id="W15",
            title="the model gives NaN",
            run=worker.wrong_output,
            bars=(
                *SOUND,
                Bar("invalid_outputs", "==", "wrong"),
                Bar("failed", "==", "wrong"),
                Bar("objects_of_failed", "==", 0),
            ),
        ),
        Scenario(
            id="W16",
            title="cancel running tasks at random moments",
            run=worker.cancel_races,
            bars=(*SOUND, Bar("canceled", ">=", 1), Bar("ended_as_either", "==", "tasks"), Bar("freed_s", "<=", 2.0)),
        ),
        Scenario(
            id="L1",
            title="tasks three leases long, while workers are frozen and cut off in turn",
            run=worker.long_tasks,
            bars=(
                *ALL_DONE,
                Bar("faults", ">=", 2),
                Bar("interrupted", ">=", 1),
                Bar("zombies", ">=", 1),
                Bar("zombies_accepted", "==", 0),
                Bar("workers_died", "==", 0),
                Bar("orphans", "==", 0),
            ),
            tasks=40,
            short_tasks=16,
            setup=Setup(env=SHORT_LEASE | MANY_CRASHES),
        ),
        Scenario(
            id="A1",
            title="SIGKILL the API during idempotent submits",
            run=api.kill_api,
            bars=(*ALL_DONE, Bar("exist", "==", "tasks"), Bar("faults", ">=", 1)),
            tasks=10_000,
            short_tasks=300,
        ),
        Scenario(
            id="A2",
            title="SIGTERM of each of two APIs under load",
            run=api.rolling_api,
            bars=(*ALL_DONE, Bar("failed_requests", "==", 0), Bar("exits_bad", "==", 0), Bar("exit_max_s", "<=", 30.0)),
            setup=Setup(apis=2),
        ),
        Scenario(
            id="A3",
            title="five times as many submits as the workers can do (tasks: seconds)",
            run=overload.overload,
            bars=(
                *REFUSED_RIGHT,
                Bar("refused", ">=", "accepted"),
                Bar("goodput", ">=", 0.9),
                Bar("refusal_p99_s", "<=", 0.05),
                Bar("grown_mib", "<=", 50),
                Bar("back_s", "<=", 5.0),
            ),
            tasks=60,
            short_tasks=8,
            setup=Setup(workers=2, env=overload.KEYS | {"QUEUE_MAX_DEPTH": str(overload.DEPTH)}),
        ),
        Scenario(
            id="A4",
            title="more submits at once than may wait, through four servers, while nobody works",
            run=overload.full_queue,
            bars=(
                *REFUSED_RIGHT,
                Bar("waiting", "==", "depth"),
                Bar("queue_full", ">=", "accepted"),
                Bar("accepted_after", "==", 1),
            ),
            tasks=2000,
            short_tasks=400,
            setup=Setup(apis=4, workers=1, env=overload.KEYS | {"QUEUE_MAX_DEPTH": str(overload.DEPTH)}),
        ),
        Scenario(
            id="A5",
            title="one tenant sends ten times its quota through four servers, another works (tasks: seconds)",
            run=overload.greedy_tenant,
            bars=(
                *REFUSED_RIGHT,
                Bar("limit_error", "<=", 0.01),
                Bar("others_refused", "==", 0),
                Bar("others_ratio", "<=", 1.2),
            ),
            tasks=60,
            short_tasks=8,
            setup=Setup(apis=4, workers=2, env=overload.KEYS | {"QUOTAS_SUBMITS_PER_MINUTE": str(overload.PER_MINUTE)}),
        ),
        Scenario(
            id="A8",
            title="clients hang up in the middle of things",
            run=api.hang_ups,
            bars=(*ALL_DONE, Bar("files_grown", "<=", 33), Bar("redis_connections", "<=", 33)),
            short_tasks=100,
        ),
        Scenario(
            id="A9",
            title="all workers are down for a while",
            run=api.no_workers,
            bars=(
                *SOUND,
                Bar("expired", "==", "impatient"),
                Bar("done", "==", "patient"),
                Bar("ready_without_workers", "==", 1),
            ),
        ),
        Scenario(
            id="R1",
            title="SIGKILL Redis again and again",
            run=redis.restarts,
            bars=(
                *ALL_DONE,
                Bar("faults", ">=", 1),
                Bar("workers_died", "==", 0),
                Bar("refusal_max_s", "<=", 1.0),
                Bar("recovery_max_s", "<=", 5.0),
            ),
        ),
        Scenario(
            id="R2",
            title="Redis is frozen for longer than a lease",
            run=redis.frozen,
            bars=(*ALL_DONE, *NO_TAKEOVER, Bar("request_max_s", "<=", 2.0), Bar("recovery_max_s", "<=", 5.0)),
        ),
        Scenario(
            id="R3",
            title="one reply of Redis in a hundred is lost",
            run=redis.replies_lost,
            bars=(*ALL_DONE, Bar("workers_died", "==", 0)),
            setup=Setup(env={"REDIS_TIMEOUT_S": "0.5"}),
        ),
        Scenario(
            id="R3b",
            title="workers hear nothing from Redis for a while, but are heard",
            run=redis.deaf_workers,
            bars=(*ALL_DONE, Bar("workers_died", "==", 0)),
        ),
        Scenario(
            id="R4",
            title="one worker is cut off from Redis for three leases",
            run=redis.partition,
            bars=(
                *ALL_DONE,
                Bar("interrupted", ">=", 1),
                Bar("reclaim_max_s", "<=", 10.0),
                Bar("workers_died", "==", 0),
            ),
        ),
        Scenario(
            id="R5",
            title="200 ± 100 ms to Redis and back",
            run=redis.delay,
            bars=(*ALL_DONE, Bar("attempts_lost", "==", 0), Bar("throughput_loss", "<=", 0.3)),
        ),
        Scenario(
            id="R6",
            title="every connection to Redis is reset after 100 commands",
            run=redis.resets,
            bars=(
                *ALL_DONE,
                Bar("workers_died", "==", 0),
                Bar("connections_cut", ">=", 1),
                Bar("error_share", "<=", 0.001),
            ),
        ),
        Scenario(
            id="R7",
            title="Redis has no memory left",
            run=redis.memory_full,
            bars=(
                *SOUND,
                Bar("canceled", "==", 1),
                Bar("submits_taken_while_full", "==", 0),
                Bar("cancel_status", "==", 200),
                Bar("ends_while_full", ">=", 4),
            ),
            tasks=300,
        ),
        Scenario(
            id="R8",
            title="the disk of Redis is full",
            run=redis.disk_full,
            bars=(*ALL_DONE, Bar("submits_taken_while_full", "==", 0), Bar("redis_alive", "==", 1)),
            tasks=300,
            place=redis.on_small_disk,
        ),
        Scenario(
            id="R12",
            title="Redis forgets the scripts every 0.3 s",
            run=redis.scripts_flushed,
            bars=(*ALL_DONE, *NO_TAKEOVER, Bar("unanswered", "==", 0), Bar("refused_5xx", "==", 0)),
        ),
        Scenario(
            id="R14",
            title="the clock of Redis jumps an hour ahead, an hour back, and home",
            run=redis.redis_clock_jumps,
            bars=(*ALL_DONE, *NO_TAKEOVER, Bar("clock_moved_s", ">=", 3600)),
            place=redis.fake_redis_clock,
        ),
        Scenario(
            id="R15",
            title="the clocks of servers and workers are an hour ahead",
            run=redis.host_clocks_wrong,
            bars=(*ALL_DONE, *NO_TAKEOVER),
            place=redis.fake_host_clocks,
        ),
        Scenario(
            id="F1",
            title="SIGKILL the master that three sentinels watch",
            run=failover.killed,
            bars=FAILED_OVER,
            setup=Setup(fleet=failover.sentinels),
        ),
        Scenario(
            id="F2",
            title="freeze the master until another one is, then let it go on",
            run=failover.frozen,
            bars=FAILED_OVER,
            setup=Setup(fleet=failover.sentinels),
        ),
        Scenario(
            id="F3",
            title="a failover that an operator asks for",
            run=failover.planned,
            bars=FAILED_OVER,
            setup=Setup(fleet=failover.sentinels),
        ),
        Scenario(
            id="F4",
            title="the master loses its replicas, and then dies: asynchronous replication",
            run=failover.cut_off_and_killed,
            bars=(
                Bar("taken_alone", ">=", 1),
                Bar("lost", "<=", "taken_alone"),
                *TAKEN_OVER,
            ),
            setup=Setup(fleet=failover.sentinels),
        ),
        Scenario(
            id="F5",
            title="the same, while submits wait for a replica",
            run=failover.cut_off_and_killed,
            bars=(Bar("lost", "==", 0), Bar("done", "==", "tasks"), *TAKEN_OVER),
            setup=Setup(fleet=failover.sentinels, env={"REDIS_WAIT_REPLICAS": "1"}),
        ),
        Scenario(
            id="F6",
            title="the same, while Redis takes no write without a replica",
            run=failover.cut_off_and_killed,
            bars=FAILED_OVER,
            setup=Setup(fleet=failover.careful_sentinels),
        ),
        Scenario(
            id="K1",
            title="SIGKILL the node of a cluster that has our keys",
            run=failover.killed,
            bars=FAILED_OVER,
            setup=Setup(fleet=failover.cluster),
        ),
        Scenario(
            id="K2",
            title="our slot is moved to another node of a cluster, key by key",
            run=failover.slot_moved,
            bars=(*ALL_DONE, *TAKEN_OVER, Bar("keys_moved", ">=", 1)),
            setup=Setup(fleet=failover.cluster),
        ),
        Scenario(
            id="S1",
            title="S3 is away, then back",
            run=storage.s3_away,
            bars=(*ALL_DONE, Bar("inferences", "==", "tasks"), Bar("all_done_after_s", "<=", 30.0)),
            tasks=400,
            short_tasks=100,
            setup=Setup(s3=True),
        ),
        Scenario(
            id="S2",
            title="S3 gives 1 KiB/s and answers 500, 503 or a reset to three calls in ten",
            run=storage.s3_slow,
            bars=(*ALL_DONE, Bar("throughput_loss", "<=", 0.1)),
            tasks=200,
            short_tasks=60,
            setup=Setup(s3=True),
        ),
        Scenario(
            id="S3",
            title="SIGKILL between upload and settle (tasks: results caught there)",
            run=storage.killed_before_settle,
            bars=(*ALL_DONE, Bar("stored_unsettled", ">=", "trials"), Bar("orphans", "==", 0)),
            tasks=500,
            short_tasks=10,
            setup=Setup(env=MANY_CRASHES),
        ),
        Scenario(
            id="S4",
            title="the disk for results is full",
            run=storage.disk_full,
            bars=(*SOUND, Bar("workers_died", "==", 0), Bar("files_broken", "==", 0), Bar("failed_otherwise", "==", 0)),
            place=storage.on_small_disk,
        ),
        Scenario(
            id="S5",
            title="result files are deleted behind its back",
            run=storage.result_deleted,
            bars=(*ALL_DONE, Bar("gone", "==", "tasks")),
            tasks=200,
            short_tasks=50,
        ),
        Scenario(
            id="H1",
            title="the receiver of webhooks is away for a day (43 s, and the schedule with it)",
            run=webhook.away_for_a_day,
            bars=(*TOLD, Bar("told", "==", "tasks"), Bar("refused", ">=", 1), Bar("stale", "==", 0)),
            setup=webhook.of_day(webhook.SCALE),
        ),
        Scenario(
            id="H2",
            title="SIGKILL who delivers every 2 s; one message in ten is not answered",
            run=webhook.killed_dispatcher,
            bars=(
                *TOLD,
                Bar("told", "==", "tasks"),
                Bar("kills", ">=", 1),
                Bar("repeated", "<=", "repeated_allowed"),
            ),
            setup=Setup(workers=2, env=webhook.HOOKS | {"WEBHOOKS_RETRIES_S": "0.5,1,2,4,8"}),
        ),
        Scenario(
            id="H3",
            title="500 receivers hang, one does not",
            run=webhook.hanging_receivers,
            bars=(
                *TOLD,
                Bar("told", "==", "healthy"),
                Bar("hanging", "==", "hanging_wanted"),
                Bar("lag_p95_s", "<=", 2.0),
            ),
            setup=Setup(workers=2, env=webhook.HOOKS),
        ),
        Scenario(
            id="H4",
            title="receivers answer 410, 301, 429 and 503",
            run=webhook.answers_that_are_none,
            bars=(
                *TOLD,
                Bar("told", "==", "to_busy"),
                Bar("gone_asked", "==", "gone_events"),
                Bar("followed", "==", 0),
                Bar("busy_answers", ">=", 1),
                Bar("pause_min_s", ">=", webhook.RETRY_AFTER_S),
            ),
            setup=Setup(workers=2, env=webhook.HOOKS | {"WEBHOOKS_RETRIES_S": "0.5,0.5"}),
        ),
        Scenario(
            id="H5",
            title="nobody who delivers is there while the tasks end",
            run=webhook.nobody_tells,
            bars=(*TOLD, Bar("told", "==", "tasks"), Bar("told_early", "==", 0)),
            setup=Setup(workers=2, env=webhook.HOOKS),
        ),
        Scenario(
            id="H6",
            title="the secret is replaced under load",
            run=webhook.new_secret,
            bars=(
                *TOLD,
                Bar("told", "==", "tasks"),
                Bar("before_third", ">=", 1),
                Bar("after_second", ">=", 1),
                Bar("refused_by_old", "==", 0),
                Bar("refused_by_new", "==", 0),
            ),
            short_tasks=400,
            setup=Setup(workers=2, apis=2, env=webhook.HOOKS | {"API_LINGER_S": "0"}),
        ),
        Scenario(
            id="T4",
            title="Redis is away, and everybody comes back at once",
            run=redis.everybody_retries,
            bars=(*ALL_DONE, Bar("workers_died", "==", 0), Bar("connections_ratio", "<=", 2.0)),
        ),
    )
}

SHORT = ("W1", "W3", "R1", "R3", "F1", "A1", "A4", "W7", "W16")
"""Scenarios that every change must pass: under four minutes."""
