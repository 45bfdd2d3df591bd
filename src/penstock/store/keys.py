"""Keys: the map of the database. Every key of Redis with its type, what it holds, and how long it lives.

All keys start with one root, `{<namespace>}:`. The braces are a hash tag, so that a cluster keeps them on one
node and the scripts may touch several of them. Scripts are given the root as KEYS[1] and append what follows.
With `redis.shards` above 1 there are several roots, each with these keys for its tenants: see `shards`.

| after the root             | type   | holds                                                | lives until             |
| -------------------------- | ------ | ---------------------------------------------------- | ----------------------- |
| `task:<id>`                | hash   | the record: short fields only, since one value over  | pruned                  |
|                            |        | 64 bytes would cost it the compact encoding          |                         |
| `body:<id>`                | string | the request as JSON, written once                    | pruned                  |
| `input:<id>`               | hash   | key -> the bytes of an input of its own that is not  | in the storage, or      |
|                            |        | in the storage, or not only: see `lua/parts/inline`  | pruned                  |
| `inline`                   | string | the bytes of all of these                            | kept                    |
| `inline:ended`             | zset   | ids of ended tasks with such inputs by the ms from   | in the storage, pruned  |
|                            |        | on when these may be moved to the storage            |                         |
| `outcome:<id>`             | string | result or error and timing as JSON                   | pruned                  |
| `attempts:<id>`            | string | one line of JSON for each ended attempt              | pruned                  |
| `log:<id>`                 | string | what the models have said during its attempts, at    | pruned                  |
|                            |        | most 64 KiB; none for most                           |                         |
| `queue:<model>:<priority>` | zset   | what waits, by its bytes: `<tenant>/<caller>`, a     | claimed, canceled       |
|                            |        | line feed, the created µs, the id                    |                         |
| `pools`                    | hash   | the name of a pool -> the models that some workers   | an hour without such a  |
|                            |        | serve                                                | worker, at most 32      |
| `pools:seen`               | zset   | pools by the ms when such a worker was heard of last | the same                |
| `flows:<pool>:<priority>`  | zset   | tenants with tasks waiting by their start times (ms  | found without tasks     |
|                            |        | of a device; infinite for one that is `parked`); `*` |                         |
|                            |        | while `unseen` has something                         |                         |
| `flows:...:<tenant>`       | zset   | the same of a tenant's callers                       | the same                |
| `unseen:<pool>:<priority>` | hash   | models whose callers may not be in `flows` -> the    | all looked at           |
|                            |        | last that was looked at                              |                         |
| `following:<model>`        | zset   | `<digest> <id>` of those in no queue, which wait for | answered, canceled,     |
|                            |        | the result of `reuse` of that digest; no score       | queued after all        |
| `reuse`                    | hash   | digest -> the task that equal ones wait for, or that | ended without, pruned   |
|                            |        | has their result: the leader                         |                         |
| `shared`                   | hash   | id of a task that ran -> how many others show its    | the others are pruned   |
|                            |        | result (none: only itself)                           |                         |
| `pool:<pool>`              | hash   | of each priority `v:<priority>` virtual time,        | as the pool; `f` passed |
|                            |        | `v:<priority>:<tenant>` that of its callers,         | by `v` long ago         |
|                            |        | `f:<priority>:<tenant>[/<caller>]` start times of    |                         |
|                            |        | those not in `flows`, `<priority>` claims that have  |                         |
|                            |        | passed it over since it was served                   |                         |
| `board`                    | hash   | what most scripts look at: `pools:<model>` names of  | kept; of a pool, worker |
|                            |        | pools; names of the queues that are `paused`;        | or model as it is       |
|                            |        | `drained:<worker>`; `round:<worker>` the round of    |                         |
|                            |        | its claims that counts (those of an earlier one,     |                         |
|                            |        | which it has given up, get nothing) and the ms until |                         |
|                            |        | which that is known; `capped` a digest of all        |                         |
|                            |        | `caps`; `ms:<model>`, `cost:<model>` moving averages |                         |
|                            |        | of the device ms and the kilopixels of a finished    |                         |
|                            |        | task; no `cost` while no size was known              |                         |
| `submits:<tenant>`         | zset   | accepted submits of the last 60 s by their µs, where | 60 s                    |
|                            |        | the tenant has a quota of them                       |                         |
| `caps`                     | hash   | tenant -> how many of its tasks may run at once, `*` | set anew                |
|                            |        | those of any other; none for no limits               |                         |
| `parked`                   | zset   | `<tenant> <pool>:<priority>` where a tenant waits    | one of its tasks ended, |
|                            |        | for one of its running tasks to end; no score        | or its cap was raised   |
| `delayed`                  | zset   | ids waiting for a retry, by the ms when they are due | due                     |
| `running`                  | zset   | running ids by the ms when their lease ends          | settled, reclaimed      |
| `starting`                 | zset   | ids with a start limit, by that ms                   | claimed, expired        |
| `deadlines`                | zset   | ids with a deadline, by that ms                      | ended                   |
| `gone:<tenant>:<n>:<0-3>`  | string | six bytes of each deleted id that was made within    | 7 days after the last   |
|                            |        | ten minutes, the `n`th since 1970                    |                         |
| `condemned`                | zset   | keys and prefixes (with a slash at their end) to be  | deleted                 |
|                            |        | deleted from the storage, by the ms when that is     |                         |
|                            |        | done; `again <key>` when once more                   |                         |
| `awaited`                  | zset   | keys and prefixes of inputs that are about to be     | task submitted, given   |
|                            |        | stored for new tasks, by the ms when that is given   | up                      |
|                            |        | up                                                   |                         |
| `answering`                | set    | `<model> <digest>` of results that are there, while  | answered                |
|                            |        | tasks still wait for them                            |                         |
| `grace`                    | string | ms until which nothing is deleted by time            | 10 minutes              |
| `finals`                   | zset   | ended ids by the ms when they are pruned             | pruned                  |
| `state:<tenant>:<STATE>`   | zset   | all ids of a state by their created µs: the list     | pruned                  |
| `tenants`                  | set    | tenants with tasks or batches                        | nothing left of it      |
| `account:<tenant>`         | hash   | what it holds now: `redis` and `storage` (bytes),    | nothing left of it, and |
|                            |        | `reserved_ms`; what it has used on the `day` (since  | its usage deleted       |
|                            |        | 1970, UTC): the fields of `usage:<tenant>:<day>`     |                         |
| `usage:<tenant>:<day>`     | hash   | what a tenant used on an earlier day: tasks that     | `queue.usage_days`      |
|                            |        | were `submitted` and have ended, `device_ms`,        |                         |
|                            |        | `bytes_in`, `bytes_out`                              |                         |
| `usage`                    | zset   | `<day> <tenant>` of these, and of today, by the day  | the same                |
| `idem:<digest>`            | string | `<id> <fingerprint>` of a client_request_id, of a    | pruned with its task    |
|                            |        | task or a batch                                      | or batch                |
| `rate:<tenant>/<caller>`   | zset   | accepted submits of the last 60 s by their µs        | 60 s                    |
| `upload:<id>`              | hash   | an upload: its owner, size and digest, and how many  | deleted, and no byte    |
|                            |        | `tasks` use it                                       | can arrive any more     |
| `files:<tenant>:<caller>`  | zset   | uploads that are listed as files, by their created   | given up, unlisted      |
|                            |        | µs                                                   |                         |
| `uploads`                  | zset   | uploads that no task uses, by the ms when they are   | used, forgotten         |
|                            |        | given up, or their objects deleted                   |                         |
| `uploadrate:<tenant>/      | zset   | uploads opened in the last 60 s by their µs          | 60 s                    |
| <caller>`                  |        |                                                      |                         |
| `requests:<tenant>`        | zset   | requests of the last 60 s by their µs, where a quota | 60 s                    |
|                            |        | counts them                                          |                         |
| `events:<id>`              | hash   | seq -> an event its webhook is told, as JSON; `n`    | pruned                  |
|                            |        | the last seq; `progress` the seq of the last word of |                         |
|                            |        | progress; `progressed` the ms when it was due        |                         |
| `outbox`                   | zset   | endpoints that are owed events, by the ms of the     | all delivered or failed |
|                            |        | next delivery, but for those of                      |                         |
| `outbox-prompt`            | zset   | the same of endpoints that answer promptly           | all delivered or failed |
| `prompt`                   | zset   | endpoints that answered promptly, by that ms         | a day, or until one     |
|                            |        |                                                      | does not                |
| `outbox:<endpoint>`        | zset   | `<id> <seq>` by the ms when the event is due, or its | delivered, failed,      |
|                            |        | lease ends                                           | pruned                  |
| `resting`                  | hash   | endpoint -> the ms until which nothing is sent to it | nothing owed to it      |
| `batch:<id>`               | hash   | the record of a batch: `fed` of `total` lines, how   | pruned                  |
|                            |        | many are in each state, the `epoch` of its feeder,   |                         |
|                            |        | `refill` while it has none: see `feeding`            |                         |
| `plan:<id>`                | string | the request as JSON, without the lines, which        | pruned                  |
|                            |        | are in the storage                                   |                         |
| `open:<id>`                | set    | places of the lines whose tasks wait or run: small   | ended                   |
|                            |        | numbers, so that it is compact                       |                         |
| `ends:<id>`                | list   | `<place> <STATE> <error code>` of each line, as they | pruned                  |
|                            |        | end; `-<STATE>` of one that never became a task      |                         |
| `batches:<tenant>`         | zset   | ids of batches by their created µs: the list         | pruned                  |
| `unfinished:<tenant>/      | set    | ids of batches that have not ended                   | ended                   |
| <caller>`                  |        |                                                      |                         |
| `feeding`                  | zset   | ids of batches by the ms when they are looked at, or | all fed                 |
|                            |        | when the lease of their feeder ends; at once when    |                         |
|                            |        | no more than `refill` of their tasks are unfinished  |                         |
| `closed`                   | zset   | ids of ended batches by the ms when they are pruned, | pruned                  |
|                            |        | and of those that are being received                 |                         |
| `paused`                   | hash   | `<model>:<priority>` -> since when and by whom, as   | resumed                 |
|                            |        | JSON                                                 |                         |
| `drained`                  | zset   | workers that are to claim nothing, by the ms since   | resumed, worker gone    |
| `asking:<worker>`          | string | nothing; there while an idle worker asks the others  | 2 s, or until one gives |
|                            |        | for a task                                           | it a task               |
| `workers`                  | hash   | worker id -> its description as JSON                 | worker gone             |
| `workers:seen`             | zset   | worker ids by the ms when they count as gone         | worker gone             |
| `models`                   | hash   | id of a version of a model -> its description as     | retracted               |
|                            |        | JSON, and who published it last                      |                         |
| `models:first`             | hash   | the same ids -> the µs when each was published       | retracted; that of no   |
|                            |        | first; of no id, when anything was                   | id is kept              |
| `models:default`           | hash   | name of a model -> the version that an operator has  | retracted               |
|                            |        | made the default                                     |                         |
| `unreadable`               | zset   | `<id> <reason>` of records that could not be read,   | a week                  |
|                            |        | by the ms when they were set aside                   |                         |
| `aside:<id>:<part>`        | any    | what was there in their place                        | a week                  |
| `keys`                     | hash   | id of a managed key -> its record as JSON, with the  | 90 days after its end   |
|                            |        | SHA-256 of the key and never the key                 |                         |
| `keys:used`                | zset   | the same ids by the ms when each was last used       | as the key              |
| `keys:version`             | string | a random word, another one after every change of     | kept                    |
|                            |        | keys, tokens or quotas                               |                         |
| `tokens`                   | hash   | `secret`: what task tokens are signed with           | kept                    |
| `tokens:generation`        | hash   | tenant -> the number of those of its task tokens     | kept                    |
|                            |        | that work                                            |                         |
| `quotas`                   | hash   | tenant -> the quotas that an administrator has set,  | taken back              |
|                            |        | as JSON                                              |                         |
| `history`                  | hash   | minute since 1970 -> a sample of it as JSON, for the | an hour, in all at      |
|                            |        | console; '' while one process takes it               | most 61                 |
| `session:<digest>`         | string | a session of the console by the digest of its token: | `console.session_s`, or |
|                            |        | with which key it was opened, as JSON                | logout                  |
| `audit`                    | stream | `record`: who did what to the work or the keys of    | 50,000 others came      |
|                            |        | others, as JSON                                      |                         |
| `installation`             | hash   | `shards`, where they are several; `id`, `created`    | kept                    |
|                            |        | (ms) and the `beat`; `id` and `beat`                 |                         |
|                            |        | are in the marker of the storage too, which has      |                         |
|                            |        | `next` already while the beat is replaced            |                         |
| `copies`                   | string | nothing; written whenever `redis.wait_replicas` are  | kept                    |
|                            |        | waited for                                           |                         |
| `orphan-turn`              | string | nothing; there until the next look for orphans       | an hour                 |
| `reaper`                   | string | ms of the last reclaim, for its grace                | kept                    |
| `signals` (channel)        | –      | `queued <model>`, `cancel <id> <token>`,             | –                       |
|                            |        | `drain <worker>`, `resume <worker>`,                 |                         |
|                            |        | `idle <worker> <models>`, and `model <act> <id>`:    |                         |
|                            |        | for workers                                          |                         |
| `ended` (channel)          | –      | `<id>` of each task that ends: for the API           | –                       |
| `changed:<id>` (channel)   | –      | nothing, when the task has changed and its record    | –                       |
|                            |        | says that it is `watched`: for its watchers          |                         |
| `posted` (channel)         | –      | nothing, whenever an event is owed: for dispatchers  | –                       |
| `room` (channel)           | –      | nothing, whenever a batch may be fed: for feeders    | –                       |
| `catalogue` (channel)      | –      | nothing, whenever what is published of models        | –                       |
|                            |        | changes: for the API                                 |                         |
| `keys:changed` (channel)   | –      | nothing, whenever keys, tokens or quotas have        | –                       |
|                            |        | changed: for the API                                 |                         |

"Owed" events are to be delivered; they are of tasks or of batches.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from urllib.parse import urlsplit

from penstock.core.access import TENANT


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.root = f"{{{namespace}}}:"
        self.workers = f"{self.root}workers"
        self.workers_seen = f"{self.root}workers:seen"
        self.pools = f"{self.root}pools"
        self.paused = f"{self.root}paused"
        self.drained = f"{self.root}drained"
        self.running = f"{self.root}running"
        self.signals = f"{self.root}signals"
        self.ended = f"{self.root}ended"
        self.changed = f"{self.root}changed:"
        self.posted = f"{self.root}posted"
        self.finals = f"{self.root}finals"
        self.delayed = f"{self.root}delayed"
        self.condemned = f"{self.root}condemned"
        self.awaited = f"{self.root}awaited"
        self.inline = f"{self.root}inline"
        self.installation = f"{self.root}installation"
        self.orphan_turn = f"{self.root}orphan-turn"
        self.board = f"{self.root}board"
        self.uploads = f"{self.root}uploads"
        self.feeding = f"{self.root}feeding"
        self.closed = f"{self.root}closed"
        self.room = f"{self.root}room"
        self.reuse = f"{self.root}reuse"
        self.tenants = f"{self.root}tenants"
        self.unreadable = f"{self.root}unreadable"
        self.models = f"{self.root}models"
        self.models_first = f"{self.root}models:first"
        self.models_default = f"{self.root}models:default"
        self.catalogue = f"{self.root}catalogue"
        self.access_keys = f"{self.root}keys"
        self.access_keys_used = f"{self.root}keys:used"
        self.access_keys_version = f"{self.root}keys:version"
        self.access_keys_changed = f"{self.root}keys:changed"
        self.tokens = f"{self.root}tokens"
        self.token_generations = f"{self.root}tokens:generation"
        self.quotas = f"{self.root}quotas"
        self.audit = f"{self.root}audit"
        self.history = f"{self.root}history"
        self.usage = f"{self.root}usage"
        self.copies = f"{self.root}copies"

    def queue(self, model: str, priority: str) -> str:
        """Waiting tasks of one model and priority."""
        return f"{self.root}queue:{model}:{priority}"

    def state(self, tenant: str, state: str) -> str:
        """Ids of the tasks of one tenant in one state."""
        return f"{self.root}state:{tenant}:{state}"

    def account(self, tenant: str) -> str:
        """What one tenant holds now and has used today."""
        return f"{self.root}account:{tenant}"

    def asking(self, worker: str) -> str:
        """A key that is there while an idle worker waits to be given a task."""
        return f"{self.root}asking:{worker}"

    def task(self, task_id: str) -> str:
        """The record of a task."""
        return f"{self.root}task:{task_id}"

    def body(self, task_id: str) -> str:
        """The request of a task."""
        return f"{self.root}body:{task_id}"

    def input(self, task_id: str) -> str:
        """The inputs of a task that are in Redis, by their keys."""
        return f"{self.root}input:{task_id}"

    def upload(self, upload_id: str) -> str:
        """The record of an upload."""
        return f"{self.root}upload:{upload_id}"

    def files(self, tenant: str, caller: str) -> str:
        """Ids of the uploads of one caller that are listed as files."""
        return f"{self.root}files:{tenant}:{caller}"

    def outcome(self, task_id: str) -> str:
        """The result or the error of a task, with its timing."""
        return f"{self.root}outcome:{task_id}"

    def attempts(self, task_id: str) -> str:
        """The ended attempts of a task."""
        return f"{self.root}attempts:{task_id}"

    def session(self, digest: str) -> str:
        """The session of the console whose token has this digest."""
        return f"{self.root}session:{digest}"

    def events(self, subject: str) -> str:
        """The events of a task or a batch."""
        return f"{self.root}events:{subject}"

    def of_root(self, name: str) -> str:
        """Any key that otherwise only scripts use."""
        return self.root + name

    def batch(self, batch_id: str) -> str:
        """The record of a batch."""
        return f"{self.root}batch:{batch_id}"

    def plan(self, batch_id: str) -> str:
        """The plan of a batch: its request without the lines."""
        return f"{self.root}plan:{batch_id}"

    def ends(self, batch_id: str) -> str:
        """The rows of a batch's manifest: how its lines have ended."""
        return f"{self.root}ends:{batch_id}"

    def open(self, batch_id: str) -> str:
        """The places of those lines of a batch whose tasks have not ended."""
        return f"{self.root}open:{batch_id}"

    def batches(self, tenant: str) -> str:
        """Ids of the batches of one tenant."""
        return f"{self.root}batches:{tenant}"


def shard_of(name: str, count: int) -> int:
    """The number of the shard of a tenant, or of an upload, whose id is made so that it has that of its tenant."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count


def tenants_of(members: Iterable[bytes]) -> list[str]:
    """The names in the set `tenants`, and the default one, sorted."""
    return sorted({TENANT, *(name.decode() for name in members)})


def idempotency_digest(tenant: str, caller: str, client_request_id: str) -> str:
    """The name of an idempotency key: scoped to the API key, and short whatever the client has sent."""
    return hashlib.sha256(f"{tenant}/{caller}\0{client_request_id}".encode()).hexdigest()[:40]


def endpoint_digest(tenant: str, url: str) -> str:
    """16 characters for a tenant and the scheme, host and port of a URL: all paths of an endpoint share its quota and
    its rest, and those of another tenant, whose path there may hang, are apart."""
    parts = urlsplit(url)
    digest = hashlib.sha256(f"{tenant} {parts.scheme}://{parts.netloc}".encode()).digest()
    return urlsafe_b64encode(digest[:12]).decode()
