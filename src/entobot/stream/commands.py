"""Device command `events.ack`: for clients that read events over HTTP and cannot send `ack` frames."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction
from entobot.stream.service import Stream


class AckEvents(Struct, forbid_unknown_fields=True):
    seq: Annotated[int, Meta(ge=0, le=2**53)]


def commands(stream: Stream, tell: Callable[[str, int], None]) -> list[Command]:
    """`tell(device_id, seq)` is called on the loop once the acknowledgement is committed."""

    def ack(tx: Transaction, caller: Principal, data: AckEvents, now_ms: int) -> object:
        device_id = caller.device_id
        if device_id is None:
            raise Problem(Code.FORBIDDEN, "Only a device acknowledges events.")
        if data.seq > stream.head(tx, caller.user_id).seq:
            raise Problem(Code.INVALID, "There is no event with this number yet.")
        stream.acknowledge(tx, device_id, caller.user_id, data.seq, now_ms)
        tx.after_commit(lambda: tell(device_id, data.seq))
        return {"seq": data.seq}

    return [Command("events.ack", AckEvents, ack)]
