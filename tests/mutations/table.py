"""The guards, how each is taken out, and what has to fail then."""

from typing import NamedTuple

LUA = "src/penstock/store/lua"


class Mutation(NamedTuple):
    """In `file`, `text` is there once and becomes `instead`. `fails` is a test by its pytest id, or what follows
    `python -m` where that exits with 1."""

    guard: str
    file: str
    text: str
    instead: str
    fails: str


BETWEEN = "tests.interleave --first --seconds 120 --only "
LONG = "tests/integration/test_long_outages.py::test_a_task_"

MUTATIONS = (
    Mutation(
        "count of the tasks that show a result",
        f"{LUA}/parts/objects.lua",
        "if others > 1 then",
        "if false then",
        BETWEEN + "b-shows-the-result-of-a",
    ),
    Mutation(
        "files go with the last task that shows them only",
        f"{LUA}/parts/objects.lua",
        "local others = tonumber(redis.call('HGET', shared, origin) or 0)",
        "local others = 0",
        BETWEEN + "b-shows-the-result-of-a",
    ),
    Mutation(
        "what is condemned stays written down until it is deleted",
        f"{LUA}/condemned.lua",
        "for _, key in ipairs(taken) do redis.call('ZADD', condemned, now + ARGV[2], key) end",
        "for _, key in ipairs(taken) do redis.call('ZREM', condemned, key) end",
        BETWEEN + "a-was-canceled",
    ),
    Mutation(
        "what was deleted is taken off",
        f"{LUA}/buried.lua",
        "redis.call('ZREM', ROOT .. 'condemned', unpack(ARGV))",
        "",
        BETWEEN + "a-was-canceled",
    ),
    Mutation(
        "inputs that no task comes of are condemned in time",
        f"{LUA}/condemned.lua",
        "  redis.call('ZADD', condemned, now, key)\n",
        "",
        BETWEEN + "a-waits",
    ),
    Mutation(
        "an input is written down before it is stored",
        f"{LUA}/parts/objects.lua",
        "  redis.call('ZADD', ROOT .. 'awaited', now_ms() + AWAITED_MS, key)\n",
        "  redis.call('ZADD', ROOT .. 'awaited', now_ms() - 1, key)\n",
        BETWEEN + "a-waits",
    ),
    Mutation(
        "a second look where an attempt was cut off",
        f"{LUA}/parts/lease.lua",
        "  redis.call('HSET', task.key, 'cut_off', now_ms())\n",
        "",
        BETWEEN + "a-runs",
    ),
    Mutation(
        "a second look where the task that ran is not known",
        f"{LUA}/parts/objects.lua",
        "condemn(results_of(task.tenant, origin), now_ms() + LATE_MS)",
        "condemn(results_of(task.tenant, origin), late)",
        BETWEEN + "a-was-lost",
    ),
    Mutation(
        "fence of a claim",
        "src/penstock/store/tasks.py",
        "fence = secrets.token_hex(4)",
        'fence = "0" * 8',
        BETWEEN + "redis-fails-over",
    ),
    Mutation(
        "lines of a batch go with it",
        f"{LUA}/parts/batch.lua",
        "  condemn('batches/' .. f[1] .. '/' .. batch .. '/', not f[4] and now_ms() + LATE_MS)\n",
        "",
        BETWEEN + "a-batch-has-failed",
    ),
    Mutation(
        "an upload in use is not given up",
        f"{LUA}/upload_retire.lua",
        "if tonumber(f[3] or 0) > 0 then return 'used' end\n",
        "",
        BETWEEN + "an-upload-is-used",
    ),
    Mutation(
        "a submit takes no upload that is deleted",
        f"{LUA}/submit.lua",
        "  if upload ~= '' and not has_upload(upload, 'arrived') then return {'upload'} end\n",
        "",
        BETWEEN + "an-upload-is-ready",
    ),
    Mutation(
        "the turn of a line",
        f"{LUA}/submit.lua",
        "  if b[1] ~= ARGV[27] or b[2] ~= place then return {'turn'} end\n",
        "",
        BETWEEN + "a-batch-waits",
    ),
    Mutation(
        "who waits for a leader that ended without a result goes on",
        f"{LUA}/parts/reuse.lua",
        "  if redis.call('HGET', ROOT .. 'reuse', digest) == task.id then lead_anew(model, digest, task.crashes) end\n",
        "",
        BETWEEN + "b-follows-a",
    ),
    Mutation(
        "a script stops in time",
        f"{LUA}/_counting.lua",
        "return CALLS < 1500",
        "return true",
        "tests/integration/test_script_bounds.py",
    ),
    Mutation(
        "commands are counted from the first",
        "src/penstock/store/scripts.py",
        'return f"{counting}\\n{text}" if "may_go_on()" in text else text',
        'return f"local function may_go_on() return true end\\n{text}" if "may_go_on()" in text else text',
        "tests/integration/test_script_bounds.py",
    ),
    Mutation(
        "a result that was refused is deleted by who stored it",
        "src/penstock/worker/attempt.py",
        "                await self._pipeline.discard(settlement.outcome)\n",
        "                pass\n",
        "tests/integration/test_attempt.py::test_a_file_goes_when_its_settling_is_refused",
    ),
    Mutation(
        "a worker's books by the lease",
        "src/penstock/task.py",
        'return f"{self.id} {self.token}"',
        "return self.id",
        LONG + "whose_worker_is_cut_off_from_redis_for_more_than_a_lease_ends_with_its_second_attempt",
    ),
    Mutation(
        "a lease is kept while its result is on its way to the storage",
        "src/penstock/worker/host.py",
        "self._store.renew(info, tuple(self._leases.values()))",
        "self._store.renew(info, [lease for key, lease in self._leases.items() if key not in self._uploading])",
        LONG + "whose_result_takes_six_leases_to_store_is_run_once",
    ),
    Mutation(
        "who is told that this is a replica leaves it",
        "src/penstock/store/connection.py",
        "            self._wire.leave()\n",
        "            pass\n",
        LONG + "over_which_redis_fails_over_ends_once",
    ),
    Mutation(
        "a canceled attempt takes back what it has stored",
        "src/penstock/worker/spool.py",
        "            await self._storage.delete(parcel.key)\n",
        "            pass\n",
        "tests/integration/test_spool.py",
    ),
    Mutation(
        "receipt of a settle",
        f"{LUA}/settle.lua",
        "if task.receipt == receipt then return {'ok', task.state, ''} end\n",
        "",
        "tests/integration/test_transitions.py::test_settling_twice_with_one_lease_is_accepted_and_counts_once",
    ),
    Mutation(
        "the beat of an installation",
        "src/penstock/orphans.py",
        "    if marker.beat not in identity.beats:\n",
        "    if False:\n",
        "tests/integration/test_orphans.py::test_nothing_is_deleted_by_a_redis_that_was_restored_from_an_older_save",
    ),
    Mutation(
        "the conflict that is written into the marker",
        "src/penstock/orphans.py",
        "            await _mark(storage, Marker(id=identity.id, beat=CONFLICT))\n",
        "            pass\n",
        "tests/integration/test_orphans.py::test_of_two_copies_of_a_redis_none_deletes_what_the_other_knows",
    ),
    Mutation(
        "the next beat, written down before the storage has it",
        "src/penstock/store/installation.py",
        "        return self.beat, self.next\n",
        "        return (self.beat,)\n",
        "tests/integration/test_orphans.py::test_a_crash_while_the_beat_is_replaced_stops_nobody",
    ),
    Mutation(
        "checking the query before a handler runs",
        "src/penstock/api/app.py",
        "        before_request=check_query,\n",
        "",
        "tests/integration/test_query_names.py::test_every_route_refuses_a_query_name_that_it_does_not_know",
    ),
    Mutation(
        "the filter of the list in the acts",
        "src/penstock/api/filters.py",
        "            metadata=self.metadata,\n",
        "",
        "tests/integration/test_bulk.py::test_an_act_hits_what_its_dry_run_says_and_the_list_shows",
    ),
    Mutation(
        "looking on behind a thousand tasks",
        "src/penstock/api/bulk.py",
        "ROUNDS = 20",
        "ROUNDS = 1",
        "tests/integration/test_bulk.py::test_an_act_goes_on_past_a_thousand_tasks_that_do_not_match",
    ),
    Mutation(
        "asking for all=true",
        "src/penstock/api/bulk.py",
        "if not task_filter.leaves_out and",
        "if False and",
        "tests/integration/test_bulk.py::test_an_act_on_every_task_of_a_status_has_to_be_meant",
    ),
    Mutation(
        "the states that an act is about, in its script",
        "src/penstock/api/removal.py",
        "services.store.cancel(task.id, tenant, states=states)",
        "services.store.cancel(task.id, tenant)",
        "tests/integration/test_bulk.py::test_a_task_that_starts_while_the_waiting_ones_are_canceled_goes_on",
    ),
)
