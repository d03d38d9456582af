"""Device commands about devices, over any transport."""

from typing import Any

import msgspec

from entobot.core.errors import Code, Problem
from entobot.core.principal import Principal
from entobot.devices.service import Devices
from entobot.gateway.commands import Command
from entobot.storage.database import Transaction


class RenameDevice(msgspec.Struct, forbid_unknown_fields=True):
    """`device_id` left out means the device that asks."""

    device_name: str
    device_id: str | None = None


def commands(devices: Devices) -> list[Command]:
    def rename(tx: Transaction, principal: Principal, data: Any, now_ms: int) -> object:
        assert isinstance(data, RenameDevice)
        device_id = data.device_id or principal.device_id
        if device_id is None:
            raise Problem(Code.INVALID, "Say which device to rename: device_id.")
        device = devices.rename_in(tx, principal, device_id, data.device_name, now_ms)
        return {"device_id": device.device_id, "device_name": device.name}

    return [Command("device.rename", RenameDevice, rename)]
