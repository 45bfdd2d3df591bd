"""The worker: claims tasks, fetches their inputs, runs the models, stores the results.

Imports go down inside this package. `process` opens what a worker needs and starts its `host`. The host has `signals`
(what it hears through Redis), `claims` (when it takes tasks) and `running` (the attempts that run). An `attempt` goes
through the `pipeline`, whose stage `infer` is the `batcher`. Below them stand the parts that know none of these:
`fetch`, `memory`, `spool`, `results`, `stages`, `threads`, `attempt_clock`, `prefetch`, `leases`, `progress`,
`starvation`, `heartbeat` and `devices`. The layer test holds this order."""
