"""A gateway with one broken promise, to show that campaigns notice: `python -m tests.support.broken_gateway FAULT up …`."""

import itertools
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from entobot.gateway import delivery, store
from entobot.gateway.delivery import Delivery
from entobot.mqtt import service, session_store
from entobot.mqtt import store as mqtt_store
from entobot.mqtt.outgoing import Outgoing

MOMENT_S = 0.1


def acknowledge_before_it_is_kept() -> None:
    """What was committed in the last moment before a kill is gone afterwards, as with writes that were not synced."""
    database = Path(os.environ["ENTOBOT_HOME"], "entobot.db")
    kept = database.with_suffix(".kept")
    if kept.exists():
        for name in ("entobot.db-wal", "entobot.db-shm"):
            database.with_name(name).unlink(missing_ok=True)
        kept.replace(database)
    threading.Thread(target=_keep, args=(database, kept), daemon=True).start()


def _keep(database: Path, kept: Path) -> None:
    while True:
        time.sleep(MOMENT_S)
        if database.with_name("entobot.db-wal").exists():  # before that a reader would keep it from being made
            copy = kept.with_suffix(".copy")
            copy.unlink(missing_ok=True)
            with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            copy.replace(kept)


def skip_an_event_on_resume() -> None:
    """The first event of a replay is left out."""
    send = Delivery._send

    def skipping(self: Delivery, frames: list[Any]) -> None:
        if self._replay_to is not None and len(frames) > 1:
            self._cursor, frames = frames[0].seq, frames[1:]
        send(self, frames)

    Delivery._send = skipping


def forget_what_was_executed() -> None:
    """A repeated command is executed again."""
    store.find_result = _nothing
    store.insert_result = _nothing


def _nothing(*_: Any, **__: Any) -> None:
    """Found, and done."""


def begin_anew_without_a_word() -> None:
    """A resume is answered as if it had been followed, from where the stream is now."""
    opened = Delivery.open

    def careless(self: Delivery, opening: Any, channel: Any) -> None:
        if opening.reset is None:
            opening = delivery.Opening(opening.stream_id, opening.seq, opening.seq, None, None)
        opened(self, opening, channel)

    Delivery.open = careless


def shuffle() -> None:
    """Events leave in another order now and then."""
    send = Delivery._send
    last: dict[int, bytes] = {}

    def turned(self: Delivery, frames: list[Any]) -> None:
        send(self, frames)
        if frames and frames[-1].seq % 20 == 0:
            self._outlet.send(last.get(id(self), b"{}"))
        if frames:
            last[id(self)] = frames[-1].payload or b"{}"

    Delivery._send = turned


def forget_which_packets_came() -> None:
    """A message of QoS 2 that is sent again counts as another one."""
    mqtt_store.receive = lambda *_: True


def keep_commands_to_itself() -> None:
    """Every third command is taken and never told."""
    send, turns = service.Broker.send, itertools.count()

    def careless(self: service.Broker, tx: Any, topic: str, *arguments: Any, **options: Any) -> None:
        if next(turns) % 3:
            send(self, tx, topic, *arguments, **options)

    service.Broker.send = careless


def begin_sessions_anew() -> None:
    """Whoever comes by MQTT finds nothing of its session."""
    session_store.find_session = _emptied


def _emptied(tx: Any, device_id: str, client_id: str) -> None:
    found = [one for one in session_store.sessions_of(tx, device_id) if one.client_id == client_id]
    for one in found:
        session_store.delete_session(tx, one.session)


def leave_out_a_session() -> None:
    """Of every fortieth message one of its receivers hears nothing."""
    targets, turns = service.targets, itertools.count(1)

    def careless(*arguments: Any) -> Any:
        return targets(*arguments)[0 if next(turns) % 40 else 1 :]

    service.targets = careless


def turn_what_waited_round() -> None:
    """What waits for a session is sent from its end."""
    fetched = Outgoing.fetched

    def turned(self: Outgoing, found: list[Any], *arguments: Any, **options: Any) -> Any:
        return fetched(self, found[::-1], *arguments, **options)

    Outgoing.fetched = turned


def tell_each_of_a_share() -> None:
    """A shared subscription is as if each of its clients had its own."""
    targets = service.targets

    def careless(found: Any, *arguments: Any) -> Any:
        return targets([replace(one, share="") for one in found], *arguments)

    service.targets = careless


FAULTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        acknowledge_before_it_is_kept,
        begin_anew_without_a_word,
        begin_sessions_anew,
        forget_what_was_executed,
        forget_which_packets_came,
        keep_commands_to_itself,
        leave_out_a_session,
        shuffle,
        skip_an_event_on_resume,
        tell_each_of_a_share,
        turn_what_waited_round,
    )
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from entobot.__main__ import main

    main()
