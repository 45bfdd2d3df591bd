"""The guards: how each is removed, and which test must fail then."""

from typing import NamedTuple

LUA = "src/penstock/store/lua"


class Mutation(NamedTuple):
    """`text` stands exactly once in `file` and is replaced by `instead`. `fails` is a test by its pytest id, or the
    arguments of `python -m` for a program that exits with 1."""

    guard: str
    file: str
    text: str
    instead: str
    fails: str


BETWEEN = "tests.interleave --first --seconds 120 --only "
FLIGHT = "tests/unit/test_two_in_flight.py::test_"
ORDER = "tests/unit/test_device_order.py::test_"
WAITS = "tests/worker/test_attempt_time.py::test_an_attempt_that_waits_"
LONG = "tests/system/test_long_outages.py::test_a_task_"
SHARES = "tests/worker/test_fair_shares.py::test_"
SHARE_TIME = "tests/store/test_fair_device_time.py::test_"

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
        "for _, key in ipairs(taken) do redis.call('ZADD', condemned, now + hold_ms, key) end",
        "for _, key in ipairs(taken) do redis.call('ZREM', condemned, key) end",
        BETWEEN + "a-was-canceled",
    ),
    Mutation(
        "what was deleted is taken off",
        f"{LUA}/buried.lua",
        "redis.call('ZREM', ROOT .. 'condemned', unpack(entries))",
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
        "src/penstock/store/leases.py",
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
        "    if not has_upload(upload, 'arrived') then return {'upload', upload} end\n",
        "",
        BETWEEN + "an-upload-is-ready",
    ),
    Mutation(
        "the turn of a line",
        f"{LUA}/submit.lua",
        "  if b[1] ~= feeder_epoch or b[2] ~= place then return {'turn'} end\n",
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
        "tests/store/test_script_bounds.py",
    ),
    Mutation(
        "commands are counted from the first",
        "src/penstock/store/scripts.py",
        'return f"{counting}\\n{text}" if "may_go_on()" in text else text',
        'return f"local function may_go_on() return true end\\n{text}" if "may_go_on()" in text else text',
        "tests/store/test_script_bounds.py",
    ),
    Mutation(
        "a result that was refused is deleted by who stored it",
        "src/penstock/worker/attempt.py",
        "                await self._pipeline.discard(settlement.outcome)\n",
        "                pass\n",
        "tests/worker/test_attempt.py::test_a_file_goes_when_its_settling_is_refused",
    ),
    Mutation(
        "a worker's books by the lease",
        "src/penstock/core/lease.py",
        'return f"{self.id} {self.token}"',
        "return self.id",
        LONG + "whose_worker_is_cut_off_from_redis_for_more_than_a_lease_ends_with_its_second_attempt",
    ),
    Mutation(
        "a lease is kept while its result is on its way to the storage",
        "src/penstock/worker/running.py",
        "self._uploading.add(key)\n",
        "self._uploading.add(key)\n                self._leases.let_go(key)\n",
        LONG + "whose_result_takes_six_leases_to_store_is_run_once",
    ),
    Mutation(
        "who is told that this is a replica leaves it",
        "src/penstock/store/connection.py",
        "            self._multiplexer.leave()\n",
        "            pass\n",
        LONG + "over_which_redis_fails_over_ends_once",
    ),
    Mutation(
        "a canceled attempt takes back what it has stored",
        "src/penstock/worker/spool.py",
        "            await self._storage.delete(file.key)\n",
        "            pass\n",
        "tests/worker/test_spool.py",
    ),
    Mutation(
        "receipt of a settle",
        f"{LUA}/settle.lua",
        "if task.receipt == receipt then return {'ok', task.state, ''} end\n",
        "",
        "tests/store/test_transitions.py::test_settling_twice_with_one_lease_is_accepted_and_counts_once",
    ),
    Mutation(
        "the beat of an installation",
        "src/penstock/upkeep/orphans.py",
        "    if marker.beat not in identity.beats:\n",
        "    if False:\n",
        "tests/store/test_orphans.py::test_nothing_is_deleted_by_a_redis_that_was_restored_from_an_older_save",
    ),
    Mutation(
        "the conflict that is written into the marker",
        "src/penstock/upkeep/orphans.py",
        "            await _mark(storage, Marker(id=identity.id, beat=CONFLICT))\n",
        "            pass\n",
        "tests/store/test_orphans.py::test_of_two_copies_of_a_redis_none_deletes_what_the_other_knows",
    ),
    Mutation(
        "the next beat, written down before the storage has it",
        "src/penstock/store/installation.py",
        "        return self.beat, self.next\n",
        "        return (self.beat,)\n",
        "tests/store/test_orphans.py::test_a_crash_while_the_beat_is_replaced_stops_nobody",
    ),
    Mutation(
        "the guard between priorities on a device",
        "src/penstock/worker/batcher/backlog.py",
        "        priority = self._priorities.next(list(dict.fromkeys(task.priority for task in ready)))\n",
        "        priority = ready[0].priority\n",
        ORDER + "a_lower_priority_has_the_batch_after_as_many_as_the_guard_says",
    ),
    Mutation(
        "the guard inside a priority on a device",
        "src/penstock/worker/batcher/backlog.py",
        "        return self._within[priority].next([task for task in ready if task.priority is priority])\n",
        "        return next(task for task in ready if task.priority is priority)\n",
        ORDER + "a_large_job_has_the_batch_after_as_many_small_ones_as_the_guard_says",
    ),
    Mutation(
        "the shortest job first",
        "src/penstock/worker/batcher/backlog.py",
        "self.remaining_s(task), task.arrival))",
        "task.arrival))",
        ORDER + "small_tasks_are_answered_soon_though_a_hundred_and_two_tiles_were_there_first",
    ),
    Mutation(
        "the turn of a priority is to lead a batch",
        "src/penstock/worker/batcher/backlog.py",
        "{task.priority for task in still_ready} - {lead.priority})",
        "{j.priority for j in left_out} - {j.priority for j in in_batch})",
        ORDER + "a_job_of_another_lane_does_not_wait_for_ever_while_others_of_its_priority_fill_batches",
    ),
    Mutation(
        "the clock of an attempt stands at the device",
        "src/penstock/worker/batcher/scheduler.py",
        "        with task.clock.standing():\n",
        "        with suppress():\n",
        "tests/unit/test_device_waits.py::test_the_clock_of_a_task_stands_while_others_hold_the_device",
    ),
    Mutation(
        "the clock of an attempt stands until a thread is free",
        "src/penstock/worker/pipeline.py",
        "        clock.hold()\n",
        "",
        WAITS + "behind_others_loses_no_time[prepare]",
    ),
    Mutation(
        "the clock of an attempt stands until there is memory",
        "src/penstock/worker/pipeline.py",
        "            with clock.standing():\n                await self._memory.wait(grant)\n",
        "            await self._memory.wait(grant)\n",
        WAITS + "for_memory_loses_no_time",
    ),
    Mutation(
        "a batch that nobody wants is stopped, whoever is in it",
        "src/penstock/worker/batcher/scheduler.py",
        "if not any(other in self._backlog for other in batch.tasks)]",
        "if len(batch.tasks) == 1]",
        "tests/unit/test_device_waits.py::"
        "test_a_run_that_does_not_stop_ends_all_whom_it_holds_when_none_of_them_wants_it",
    ),
    Mutation(
        "two batches of a GPU are chosen at most",
        "src/penstock/worker/batcher/scheduler.py",
        "asyncio.Semaphore(CHOSEN)",
        "asyncio.Semaphore(CHOSEN + 1)",
        FLIGHT + "a_third_batch_is_chosen_when_the_first_is_computed_and_begins_when_it_is_copied",
    ),
    Mutation(
        "who was with a device may have broken it",
        "src/penstock/worker/batcher/scheduler.py",
        "self._lose_device(outputs, self._line.tasks)",
        "self._lose_device(outputs, batch.tasks)",
        FLIGHT + "every_task_that_was_with_the_device_when_it_broke_may_have_broken_it",
    ),
    Mutation(
        "outputs that cannot be accepted fail their task, not the device",
        "src/penstock/worker/batcher/scheduler.py",
        "            self._outcomes.conclude(batch, error)\n        else:",
        "            raise\n        else:",
        FLIGHT + "outputs_that_cannot_be_shared_out_fail_their_task_and_the_device_goes_on",
    ),
    Mutation(
        "a run without a second of its own tells nothing about its model",
        "src/penstock/worker/batcher/device_runs.py",
        "        if took_s:",
        "        if True:",
        FLIGHT + "a_run_of_which_no_second_is_left_tells_nothing_about_its_model",
    ),
    Mutation(
        "no second of a GPU counts twice beside a model that notes no time",
        "src/penstock/worker/batcher/device_runs.py",
        "_left(TimeSpan(until - noted.compute_s, until), self._others)",
        "_left(TimeSpan(until - noted.compute_s, until), ())",
        FLIGHT + "what_a_run_notes_does_not_count_again_where_another_that_notes_nothing_has_taken_it",
    ),
    Mutation(
        "the costs of old shapes are forgotten",
        "src/penstock/worker/batcher/costs.py",
        "if len(self._tile_s) > KNOWN:",
        "if False:",
        "tests/unit/test_batches.py::"
        "test_of_a_model_without_fixed_shapes_the_costs_of_those_that_ran_last_are_remembered",
    ),
    Mutation(
        "the clock of an attempt stands while the batch before is with the device",
        "src/penstock/worker/batcher/device_line.py",
        "        if self._first is batch:\n            self._begin(batch)\n",
        "        self._begin(batch)\n",
        FLIGHT + "the_clock_of_a_task_stands_while_the_batch_before_is_with_the_device",
    ),
    Mutation(
        "the end of a device loop is heard of",
        "src/penstock/worker/batcher/scheduler.py",
        '            self._lose_device(DeviceBroken("a device loop died"), set())\n',
        "            pass\n",
        "tests/unit/test_device_waits.py::test_a_device_that_nobody_drives_any_more_is_lost",
    ),
    Mutation(
        "a success has made all progress",
        "src/penstock/store/records.py",
        "    if state is State.SUCCESS:\n",
        "    if False:\n",
        "tests/api/test_progress.py::test_a_success_that_said_no_progress_has_made_all",
    ),
    Mutation(
        "a task is charged when it is claimed",
        f"{LUA}/parts/flows.lua",
        "head.caller_start + ms, head.caller)",
        "head.caller_start, head.caller)",
        SHARE_TIME + "nobody_who_waits_gets_less_than_another_by_more_than_one_task",
    ),
    Mutation(
        "what was charged is set right",
        f"{LUA}/parts/flows.lua",
        "  if more == 0 then return end\n",
        "  if more ~= nil then return end\n",
        SHARES + "a_wrong_estimate_is_set_right_when_the_task_has_ended",
    ),
    Mutation(
        "nobody has a claim on the time when he had no task",
        f"{LUA}/parts/flows.lua",
        "math.max(tonumber(t[3] or 0), tonumber(t[4] or 0))",
        "tonumber(t[4] or 0)",
        "tests/store/test_claims.py::test_a_caller_who_was_idle_has_no_claim_on_the_past",
    ),
    Mutation(
        "names of callers end where they end",
        f"{LUA}/parts/queue.lua",
        "return '[' .. flow .. '\\n', '(' .. flow .. '\\11'",
        "return '[' .. flow, '(' .. flow .. '~'",
        SHARES + "who_has_nothing_left_gives_no_turn_to_a_name_that_begins_like_his",
    ),
    Mutation(
        "the guard in a slot for high priority",
        f"{LUA}/parts/claim.lua",
        "      if is_due and ",
        "      if is_due and string.find(classes, priority, 1, true) and ",
        SHARES + "a_slot_for_high_priority_is_given_to_a_class_that_was_passed_over_often_enough",
    ),
    Mutation(
        "late tasks pass nobody over",
        f"{LUA}/claim_late.lua",
        "  local how = ends[lateness(task)]\n",
        "  local how = ends[lateness(task)]\n  redis.call('HSET', ROOT .. 'passed:' .. pool, unpack(counts))\n",
        SHARES + "late_tasks_that_are_met_pass_nobody_over",
    ),
    Mutation(
        "callers of a queue that goes on are looked for",
        f"{LUA}/pause.lua",
        "do look_through(pool, priority, model) end",
        "do end",
        SHARES + "whoever_waits_in_a_paused_queue_is_found_when_it_goes_on",
    ),
    Mutation(
        "callers are looked for when a worker with other models comes",
        f"{LUA}/parts/pools.lua",
        "do look_through(pool, priority, model) end",
        "do end",
        SHARES + "whoever_waits_is_found_by_a_worker_that_comes_with_other_models",
    ),
    Mutation(
        "a claim that has not looked at all says so",
        f"{LUA}/parts/claim.lua",
        "  if HAS_MORE then return {'', 0} end\n",
        "",
        SHARES + "many_who_have_canceled_all_hide_nobody",
    ),
    Mutation(
        "an attempt before the device costs nothing",
        f"{LUA}/parts/pace.lua",
        "  if string.find(BEFORE_DEVICE, task.stage, 1, true) then return 0 end\n",
        "",
        SHARES + "an_attempt_that_ends_before_the_device_costs_nothing",
    ),
    Mutation(
        "an attempt on the device costs what it did",
        f"{LUA}/parts/pace.lua",
        "charged * math.min(1, (task.done + 1) / total)",
        "charged",
        SHARES + "what_was_on_the_device_and_failed_is_charged_as_far_as_it_came",
    ),
    Mutation(
        "a failed attempt says what it took",
        "src/penstock/worker/attempt.py",
        'execution={"device_ms": self._pipeline.took_ms(lease)}',
        'execution={"device_ms": 0.0}',
        SHARES + "a_worker_says_what_a_task_took_that_failed_after_the_device",
    ),
    Mutation(
        "checking the query before a handler runs",
        "src/penstock/api/app.py",
        "        before_request=check_query,\n",
        "",
        "tests/api/test_query_names.py::test_every_route_refuses_a_query_name_that_it_does_not_know",
    ),
    Mutation(
        "the filter of the list in the acts",
        "src/penstock/api/http/filters.py",
        "            metadata=self.metadata,\n",
        "",
        "tests/api/test_bulk.py::test_an_act_hits_what_its_dry_run_says_and_the_list_shows",
    ),
    Mutation(
        "looking on behind a thousand tasks",
        "src/penstock/api/bulk.py",
        "ROUNDS = 20",
        "ROUNDS = 1",
        "tests/api/test_bulk.py::test_an_act_goes_on_past_a_thousand_tasks_that_do_not_match",
    ),
    Mutation(
        "asking for all=true",
        "src/penstock/api/bulk.py",
        "if not self.task_filter.leaves_out and",
        "if False and",
        "tests/api/test_bulk.py::test_an_act_on_every_task_of_a_status_has_to_be_meant",
    ),
    Mutation(
        "the states that an act is about, in its script",
        "src/penstock/api/routes/removal.py",
        "services.store.tasks.cancel(task.id, tenant, states=states)",
        "services.store.tasks.cancel(task.id, tenant)",
        "tests/api/test_bulk.py::test_a_task_that_starts_while_the_waiting_ones_are_canceled_goes_on",
    ),
)
