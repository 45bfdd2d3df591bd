"""The network between the simulated processes and Redis: each connection has its latency, and faults by the seed.

Bytes are delivered in order and once, or not at all, as TCP does. A partition holds them back; a cut loses what is
under way in both directions, and the two ends hear of it. What a process had sent before its death still arrives.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from tests.seeds.loop import CURRENT, SimulatedLoop, SimulatedProcess
from tests.seeds.server import BlockingRedis, Reply

Watch = Callable[["Link", Sequence[bytes], Reply], None]
SPLIT = 0.02
"""The share of writes that arrive in two pieces."""


class Network:
    """All connections. `usual_s` is the range of the latency, one way."""

    def __init__(self, loop: SimulatedLoop, redis: BlockingRedis, watch: Watch) -> None:
        self.loop, self.redis, self.watch = loop, redis, watch
        self.usual_s = (0.0001, 0.002)
        self.links: list[Link] = []
        self.is_down = False
        self.count = 0
        self._held_until: dict[SimulatedProcess, float] = {}
        loop.connect = self.connect

    def hold(self, process: SimulatedProcess, seconds: float) -> None:
        """Let nothing through between a process and Redis for so long."""
        self._held_until[process] = self.loop.time() + seconds

    def is_held(self, process: SimulatedProcess) -> bool:
        """Whether a process is cut off now."""
        return self._held_until.get(process, 0.0) > self.loop.time()

    def arrival(self, process: SimulatedProcess, not_before: float = 0.0) -> float:
        """When something that is sent now gets there."""
        at = max(self.loop.time(), self._held_until.get(process, 0.0)) + self.loop.chance.uniform(*self.usual_s)
        return max(at, not_before)

    async def connect(self, protocol_factory: Callable[[], asyncio.Protocol]) -> tuple["Link", asyncio.Protocol]:
        """Open a connection of the process that asks. Raises ConnectionRefusedError while Redis is down."""
        process, answered = CURRENT.get(), self.loop.create_future()
        for _ in range(2):  # there, and back
            self.loop.call_at(self.arrival(process), _set, answered, context=process.context)
            await answered
            answered = self.loop.create_future()
        if self.is_down:
            raise ConnectionRefusedError("connection refused")
        protocol = protocol_factory()
        link = Link(self, process, protocol)
        self.links.append(link)
        protocol.connection_made(link)
        return link, protocol

    def cut_all(self) -> None:
        """Cut every connection."""
        for link in tuple(self.links):
            link.cut()

    def publish(self, messages: Sequence[bytes]) -> None:
        """Send messages (channel, text, channel, text ...) to whoever has subscribed to their channels."""
        for channel, data in zip(messages[::2], messages[1::2], strict=True):
            packed = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(channel), channel, len(data), data)
            for link in self.links:
                if channel in link.channels:
                    link.answer(packed)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Link(asyncio.Transport):
    """One connection, as the transport of its client, and as what Redis knows of it."""

    def __init__(self, network: Network, process: SimulatedProcess, protocol: asyncio.Protocol) -> None:
        super().__init__()
        network.count += 1
        self.number, self.process = network.count, process
        self.channels: dict[bytes, None] = {}
        self._network, self._loop = network, network.loop
        self._protocol: Any = protocol
        self._reader = hiredis.Reader()
        self._is_cut = self._is_closed = self._is_paused = False
        self._unread: list[bytes] = []
        self._there = self._back = 0.0
        process.on_death.append(self._hang_up)

    # --- the end of the client ----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """See asyncio."""
        if self._is_closed or self._is_cut:
            return
        data = bytes(data)
        chance = self._loop.chance
        at = chance.randrange(1, len(data)) if len(data) > 1 and chance.random() < SPLIT else len(data)
        for piece in filter(None, (data[:at], data[at:])):
            self._there = self._network.arrival(self.process, self._there)
            self._at_server(self._there, self._arrive, piece)

    def writelines(self, list_of_data: Any) -> None:
        """See asyncio."""
        self.write(b"".join(list_of_data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See asyncio."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def pause_reading(self) -> None:
        """See asyncio."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """See asyncio."""
        self._is_paused = False
        unread, self._unread = self._unread, []
        for data in unread:
            self._receive(data)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known."""
        return default

    def close(self) -> None:
        """See asyncio."""
        if not self._is_closed:
            self._hang_up()
            self._at_client(self._loop.time(), self._lost, None)

    abort = close

    def _hang_up(self) -> None:
        self._is_closed = True
        self._there = self._network.arrival(self.process, self._there)
        self._at_server(self._there, self._end)

    def _receive(self, data: bytes) -> None:
        if self._is_closed or self._is_cut:
            return
        if self._is_paused:
            self._unread.append(data)
        else:
            self._protocol.data_received(data)

    def _lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        self._is_closed = True
        if protocol is not None:
            protocol.connection_lost(error)

    # --- the end of Redis ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break the connection; what is under way is lost."""
        if not self._is_cut:
            self._end()
            self._is_cut = True
            at = self._network.arrival(self.process)
            self._at_client(at, self._lost, ConnectionResetError("connection reset by peer"))

    def answer(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._back = self._network.arrival(self.process, self._back)
        self._at_client(self._back, self._receive, data)

    def _end(self) -> None:
        self.channels.clear()
        if self in self._network.links:
            self._network.links.remove(self)

    def _arrive(self, data: bytes) -> None:
        if self._is_cut:
            return
        self._reader.feed(data)
        answers, commands = b"", []
        while (command := self._reader.gets()) is not False:
            if (own := self._own_answer(command)) is None:
                commands.append(command)
            else:
                answers += own
        for command, reply in zip(commands, self._network.redis.run(commands) if commands else (), strict=True):
            self._network.watch(self, command, reply)
            answers += reply.raw
            self._network.publish(reply.published)
        if answers:
            self.answer(answers)

    def _own_answer(self, command: list[bytes]) -> bytes | None:
        """The answer to a command that is about the connection: it comes alone."""
        word = command[0].upper()
        if word == b"CLIENT":
            return b"+OK\r\n"
        if word == b"PING" and self.channels:
            return b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
        if word == b"SUBSCRIBE":
            self.channels |= dict.fromkeys(command[1:])
            return b"".join(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(one), one) for one in command[1:])
        return None

    def _at_server(self, when: float, act: Callable[..., object], *args: Any) -> None:
        self._loop.call_at(when, act, *args, context=self._loop.world.context)

    def _at_client(self, when: float, act: Callable[..., object], *args: Any) -> None:
        self._loop.call_at(when, act, *args, context=self.process.context)
