"""A real Redis behind one blocking call: a command goes out, and the loop stands still until its answer is there.

The server has the clock of the simulation: the scripts read it from a key, as in `moved_clock`, and what is to expire
is written down and deleted by that clock. What a server gives in an order of its own is sorted. What a script publishes
is kept, and fetched with its answer.
"""

import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from penstock.store import scripts
from tests.seeds.chance import MORNING_S
from tests.support.moved_clock import KEY, STILL, moved_clock

EXPIRIES, PUBLISHED = "what expires", "what was published"

SIMULATED = f"""
-- What a script gives to Redis, but for what goes by the clock of the machine or by chance.
local server = redis
local redis = setmetatable({{call = function(word, key, ...)
  local more = {{...}}
  local function expires_in(ms)
    server.call('ZADD', '{EXPIRIES}', tonumber(server.call('GET', '{KEY}')) / 1000 + ms, key)
  end
  if word == 'PUBLISH' then return server.call('RPUSH', '{PUBLISHED}', key, ...) end
  if word == 'PEXPIRE' then expires_in(tonumber(more[1])) return 1 end
  if word == 'SET' then
    for place = 2, #more - 1 do
      local unit = ({{PX = 1, EX = 1000}})[more[place]]
      if unit then
        local ms = tonumber(more[place + 1]) * unit
        table.remove(more, place + 1) table.remove(more, place)
        local answer = server.call(word, key, unpack(more))
        if answer then expires_in(ms) end
        return answer
      end
    end
  end
  local answer = server.call(word, key, ...)
  if word == 'SRANDMEMBER' and type(answer) == 'table' then table.sort(answer) end
  return answer
end}}, {{__index = server}})
"""
NEEDS_SIMULATION = ("PUBLISH", "PEXPIRE", "'PX'", "'EX'", "SRANDMEMBER", "unpack(words")
TICK = f"""
redis.call('SET', '{KEY}', ARGV[1])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', '{EXPIRIES}', '-inf', ARGV[1] / 1000)) do
  redis.call('DEL', key)
  redis.call('ZREM', '{EXPIRIES}', key)
end
"""
FETCH = f"""
local published = redis.call('LRANGE', '{PUBLISHED}', 0, -1)
redis.call('DEL', '{PUBLISHED}')
return published
"""
OPTIONS = {
    "hash-max-listpack-entries": 100_000,  # these keep the order of what was put in
    "hash-max-listpack-value": 1_000_000,
    "zset-max-listpack-entries": 1_000,
    "zset-max-listpack-value": 100_000,
}


@contextmanager
def simulated_scripts() -> Iterator[None]:
    """Inside of this block all scripts go by the clock of the simulation."""
    plain = dict(scripts.TEXTS)
    with moved_clock(STILL):
        changed = {
            name: SIMULATED + text
            for name, text in scripts.TEXTS.items()
            if any(word in text for word in NEEDS_SIMULATION)
        }
        scripts.TEXTS.update(changed)
        try:
            yield
        finally:
            scripts.TEXTS.update(plain)


class Reply:
    """The answer to a command, and what it has published: channel, message, channel, message ..."""

    __slots__ = ("published", "value")

    def __init__(self, value: Any, published: Sequence[bytes] = ()) -> None:
        self.value, self.published = value, published

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        return encoded(self.value)


def encoded(value: Any) -> bytes:
    """Write an answer as Redis does."""
    match value:
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case int():
            return b":%d\r\n" % value
        case str():
            return b"+%s\r\n" % value.encode()
        case None:
            return b"$-1\r\n"
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))
    return b"-%s\r\n" % str(value).encode()


class BlockingRedis:
    """One server, which nothing else uses. `now_s` returns the seconds since the start of the run."""

    def __init__(self, path: str) -> None:
        self.now_s: Callable[[], float] = lambda: 0.0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self.names: dict[bytes, str] = {}
        """The script of each digest."""
        self.trips = 0
        self._known: set[bytes] = set()
        self._publish: set[bytes] = set()
        self._second = -1
        for option, value in OPTIONS.items():
            self.ask("CONFIG", "SET", option, value)
        version = str(self.ask("INFO", "server")).partition("redis_version:")[2]
        self._is_modern = int(version.partition(".")[0]) >= scripts.SHEBANG_VERSION
        self.load()

    def begin(self) -> None:
        """Empty it, and have it know all scripts."""
        self._second = -1
        self.ask("FLUSHALL")
        self.load()

    def load(self) -> None:
        """Have it know all scripts."""
        self._ticks, self._fetch = (self.ask("SCRIPT", "LOAD", text) for text in (TICK, FETCH))
        wholes = {
            name: (scripts._shebang(name) if self._is_modern else "") + text for name, text in scripts.TEXTS.items()
        }
        for name, whole in wholes.items():
            digest = hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest().encode()
            if digest not in self._known:
                assert self.ask("SCRIPT", "LOAD", whole) == digest
                self._known.add(digest)
                self.names[digest] = name
                if "PUBLISH" in whole or name == "write":
                    self._publish.add(digest)

    def forget_scripts(self) -> None:
        """Forget all scripts, as a server that was restarted has."""
        self.ask("SCRIPT", "FLUSH")
        self._known.clear()
        self._ticks, self._fetch = (self.ask("SCRIPT", "LOAD", text) for text in (TICK, FETCH))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def run(self, commands: Sequence[Sequence[bytes]]) -> list[Reply]:
        """Run commands that a client has sent in one piece, at the present time."""
        now_us = int((MORNING_S + self.now_s()) * 1_000_000)
        packed, publishing = [self._tick(now_us)], []
        for command in commands:
            packed.append(hiredis.pack_command(tuple(command)))
            publishes = command[0].upper() == b"EVALSHA" and command[1] in self._publish
            publishing.append(publishes)
            if publishes:
                packed.append(hiredis.pack_command(("EVALSHA", self._fetch, 0)))
        answers = iter(self._asked(b"".join(packed), len(packed)))
        next(answers)
        replies = [Reply(next(answers), next(answers) if publishes else ()) for publishes in publishing]
        for command, reply in zip(commands, replies, strict=True):
            word = command[0].upper()
            if word == b"TIME":
                reply.value = [str(part).encode() for part in divmod(now_us, 1_000_000)]
            elif word in (b"SMEMBERS", b"SRANDMEMBER") and isinstance(reply.value, list):
                reply.value.sort()
        return replies

    def ask(self, *command: str | bytes | float) -> Any:
        """Run a command of the simulation itself, whatever the time, and return its answer."""
        (answer,) = self._asked(hiredis.pack_command(command), 1)
        return answer

    def _tick(self, now_us: int) -> bytes:
        second = now_us // 1_000_000
        if second == self._second:
            return bytes(hiredis.pack_command(("SET", KEY, now_us)))
        self._second = second
        return bytes(hiredis.pack_command(("EVALSHA", self._ticks, 0, now_us)))

    def _asked(self, packed: bytes, wanted: int) -> list[Any]:
        self.trips += 1
        self._socket.sendall(packed)
        reader, answers = hiredis.Reader(replyError=ResponseError), []
        while len(answers) < wanted:
            got = self._socket.recv(1 << 20)
            assert got, "the server has hung up"
            reader.feed(got)
            while (answer := reader.gets()) is not False:
                answers.append(answer)
        return answers
