"""A client, a store and connections between them that break at any moment: nothing is lost, QoS 2 is there once."""

from dataclasses import dataclass, field

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from entobot.mqtt import codec
from entobot.mqtt.codec import Framer
from entobot.mqtt.connection import Connection, Opened, Terms
from entobot.mqtt.effects import Effect, Fetch, Finished, Received, Rest, Send
from entobot.mqtt.model import Delivery, Message, Stage
from entobot.mqtt.packets import Connect, Packet, Properties, PubAck, PubComp, Publish, PubRec, PubRel, Version

NOW_MS = 1_000_000
AT_ONCE = 3
"""Rows of one fetch: less than the queues grow to."""


@dataclass
class Live:
    """A connection, and what is under way on both sides of it."""

    machine: Connection
    to_client: list[Packet] = field(default_factory=list[Packet])
    fetches: list[int] = field(default_factory=list[int])
    received: list[int] = field(default_factory=list[int])
    finished: list[int] = field(default_factory=list[int])
    rests: int = 0


class Broken(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, Delivery] = {}  # the session's queue, as it is committed
        self.last_seq = 0
        self.live: Live | None = None
        self.held: dict[int, bytes] = {}  # QoS 2 that the client has and was not released
        self.told: dict[int, list[int]] = {1: [], 2: []}  # what the client's program heard, by QoS
        self.published: dict[int, list[int]] = {1: [], 2: []}

    @initialize(version=st.sampled_from(list(Version)), window=st.integers(1, 4))
    def start(self, version: Version, window: int) -> None:
        self.version, self.window = version, window

    # -- the store

    @rule(qos=st.integers(1, 2), is_heard=st.booleans(), size=st.sampled_from([1, 130_000]))
    def publish(self, qos: int, is_heard: bool, size: int) -> None:
        """The bell may be lost, as between nodes."""
        self.last_seq += 1
        payload = str(self.last_seq).encode().ljust(size)
        message = Message("devices/dev_1/event", payload, qos, False, "dev_1", "usr_1", NOW_MS)
        self.rows[self.last_seq] = Delivery(self.last_seq, message, qos)
        self.published[qos].append(self.last_seq)
        if self.live is not None and is_heard:
            self.carry_out(self.live.machine.told(self.rows[self.last_seq], NOW_MS))

    @precondition(lambda self: self.live is not None)
    @rule()
    def ring(self) -> None:
        assert self.live is not None
        self.carry_out(self.live.machine.news(self.last_seq))

    @precondition(lambda self: self.live is not None and self.live.fetches)
    @rule()
    def read_rows(self) -> None:
        assert self.live is not None
        after = self.live.fetches.pop(0)
        found = [self.rows[seq] for seq in sorted(self.rows) if seq > after][:AT_ONCE]
        is_all = len(found) < AT_ONCE
        self.carry_out(self.live.machine.fetched(found, self.last_seq, NOW_MS, is_all=is_all))

    @precondition(lambda self: self.live is not None and self.live.received)
    @rule()
    def commit_received(self) -> None:
        assert self.live is not None
        seq = self.live.received.pop(0)
        if seq in self.rows:
            self.rows[seq] = msgspec.structs.replace(self.rows[seq], stage=Stage.RELEASED)
        self.carry_out(self.live.machine.released(seq))

    @precondition(lambda self: self.live is not None and self.live.finished)
    @rule()
    def commit_finished(self) -> None:
        assert self.live is not None
        self.rows.pop(self.live.finished.pop(0), None)

    # -- the client

    @precondition(lambda self: self.live is not None and self.live.to_client)
    @rule()
    def client_reads(self) -> None:
        assert self.live is not None
        packet = self.live.to_client.pop(0)
        match packet:
            case Publish(qos=1):
                self.told[1].append(int(packet.payload))
                self.send(PubAck(packet.packet_id))
            case Publish():
                self.held.setdefault(packet.packet_id, packet.payload)
                self.send(PubRec(packet.packet_id))
            case PubRel():
                payload = self.held.pop(packet.packet_id, None)
                if payload is not None:
                    self.told[2].append(int(payload))
                self.send(PubComp(packet.packet_id))
            case _:
                pass

    def send(self, packet: Packet) -> None:
        assert self.live is not None
        (frame,) = Framer(1000).feed(codec.encode(packet, self.version))
        self.carry_out(self.live.machine.frame(frame, 0.0, NOW_MS))

    @precondition(lambda self: self.live is not None)
    @rule(steps=st.integers(2, 12))
    def go_on(self, steps: int) -> None:
        """As it goes when nothing breaks."""
        for _ in range(steps):
            self.step()

    def step(self) -> bool:
        """One thing that is under way; False where nothing is."""
        live = self.live
        assert live is not None
        for waits, step in (
            (live.fetches, self.read_rows),
            (live.received, self.commit_received),
            (live.to_client, self.client_reads),
            (live.rests, self.socket_takes_more),
            (live.finished, self.commit_finished),
        ):
            if waits:
                step()
                return True
        return False

    # -- connections

    @precondition(lambda self: self.live is None)
    @rule()
    def connect(self) -> None:
        said = Properties(receive_maximum=self.window) if self.version is Version.V5 else Properties()
        machine = Connection(terms=Terms(receive_maximum=self.window), now_s=0.0)
        self.live = Live(machine)
        connect = Connect(self.version, "dev_1", clean=False, properties=said)
        (frame,) = Framer(1000).feed(codec.encode(connect, self.version))
        machine.frame(frame, 0.0, NOW_MS)
        self.carry_out(machine.opened(Opened(True), 0.0))

    @precondition(lambda self: self.live is not None)
    @rule()
    def crash(self) -> None:
        """What was not committed, and what was not read, is gone."""
        self.live = None

    @precondition(lambda self: self.live is not None)
    @rule(steps=st.integers(0, 8))
    def break_on_the_way(self, steps: int) -> None:
        self.ring()
        self.go_on(steps)
        self.crash()
        self.connect()

    @precondition(lambda self: self.live is not None and self.live.rests)
    @rule()
    def socket_takes_more(self) -> None:
        assert self.live is not None
        self.live.rests = 0
        self.carry_out(self.live.machine.writable(NOW_MS))

    def carry_out(self, effects: list[Effect]) -> None:
        live = self.live
        assert live is not None
        for one in effects:
            match one:
                case Send(data):
                    frames = Framer(1 << 20).feed(data)
                    live.to_client += [codec.decode(frame, self.version) for frame in frames]
                case Fetch(after):
                    live.fetches.append(after)
                case Received(seq):
                    live.received.append(seq)
                case Finished(seq):
                    live.finished.append(seq)
                case Rest():
                    live.rests += 1
                case _:
                    raise AssertionError(one)

    # -- what holds

    @invariant()
    def qos_2_is_told_once_and_in_order(self) -> None:
        assert self.told[2] == self.published[2][: len(self.told[2])]

    @invariant()
    def no_more_is_under_way_than_the_client_takes(self) -> None:
        if self.live is not None:
            under_way = [one for one in self.live.to_client if isinstance(one, Publish)]
            assert len(under_way) <= self.window

    def teardown(self) -> None:
        """With a connection that holds, everything arrives."""
        if self.live is None:
            self.connect()
        self.ring()
        steps = 0
        while self.step():
            steps += 1
            assert steps < 2000, "it goes on for ever"
        assert self.told[2] == self.published[2]
        assert sorted(set(self.told[1])) == self.published[1]
        assert not self.rows
        assert not self.held


TestBroken = Broken.TestCase
TestBroken.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
