"""The worker: claims tasks, fetches their inputs, runs the models, stores the results.

Imports go down inside this package: `process` starts a `host`, which is told of `signals` and has `claims` start what
it keeps in `running`; an `attempt` goes through the `pipeline`, whose `infer` is the `batcher`. What these use stands
below them and knows none of them: `fetch`, `memory`, `spool`, `results`, `stages`, `threads`, `attempt_clock`,
`prefetch`, `leases`, `progress`, `starvation`, `heartbeat` and `devices`. The layer test holds this order."""
