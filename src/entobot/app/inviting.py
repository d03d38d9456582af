"""Pairing of the running gateway."""

from entobot.accounts.service import Accounts
from entobot.app.ground import Ground
from entobot.audit.service import Audit
from entobot.devices.service import Devices
from entobot.home import Purpose
from entobot.notifications.sms_outbox import Outbox
from entobot.pairing.service import Pairing


def make_pairing(ground: Ground, audit: Audit, accounts: Accounts, devices: Devices, outbox: Outbox | None) -> Pairing:
    return Pairing(
        database=ground.database,
        clock=ground.clock,
        ids=ground.ids,
        entropy=ground.entropy,
        audit=audit,
        accounts=accounts,
        devices=devices,
        bus=ground.bus,
        server_key=ground.keys.key(Purpose.INVITE_CODES),
        origin=ground.origin,
        gateway_name=ground.name,
        spki=None if ground.certificate is None else ground.certificate.spki,
        outbox=outbox,
    )
