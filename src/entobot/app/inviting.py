"""How devices come to the running gateway: pairing, and boards that enrol themselves."""

from entobot.accounts.people import People
from entobot.accounts.service import Accounts
from entobot.app.ground import Ground
from entobot.app.periodic import Periodic
from entobot.audit.service import Audit
from entobot.devices.api_keys import ApiKeys
from entobot.devices.certificate_desk import CertificateDesk
from entobot.devices.issuing import Issuing
from entobot.devices.service import Devices
from entobot.enrolment import est, http
from entobot.enrolment.model import ENROLMENT_KEY
from entobot.enrolment.service import Enrolments
from entobot.home import Purpose
from entobot.notifications.sms_outbox import Outbox
from entobot.pairing.service import Pairing
from entobot.things.service import Things
from entobot.web.routes import Api


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


class Enrolling:
    def __init__(
        self, ground: Ground, audit: Audit, accounts: Accounts, devices: Devices, people: People, things: Things
    ) -> None:
        self._ground = ground
        server_key = ground.keys.key(Purpose.ENROLMENT_KEYS)
        self.service = Enrolments(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=audit,
            accounts=accounts,
            devices=devices,
            keys=ApiKeys(server_key, ground.entropy, ENROLMENT_KEY),
            nonce_key=server_key,
        )
        self._devices = devices
        seal_key = ground.keys.key(Purpose.DEVICE_CERTIFICATES)
        self._desk = devices.certificates = CertificateDesk(
            database=ground.database,
            clock=ground.clock,
            ids=ground.ids,
            audit=audit,
            accounts=accounts,
            issuing=Issuing(ground.database, ground.clock, ground.entropy, seal_key),
            guard=devices.guard,
            life=ground.settings.mqtt.certificate_life,
        )
        people.on_leaving.append(self.service.end_all)
        devices.on_end.append(self.service.end_of_device)
        self.service.on_made.append(things.begin)

    def add_routes(self, api: Api) -> None:
        est.add_routes(api, self._desk, self._devices)
        mqtt = self._ground.settings.mqtt
        http.add_routes(api, self.service, self._ground.clock, (mqtt.port or None) if mqtt.enabled else None)

    def start(self, periodic: Periodic) -> None: ...
