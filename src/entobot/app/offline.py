"""Features over a store that no gateway runs on: for what is done to an installation that is stopped."""

from dataclasses import dataclass

from entobot.accounts.service import Accounts
from entobot.app.doorbell import make_bus
from entobot.app.store import open_database
from entobot.audit.service import Audit
from entobot.audit.signer_local import LocalHeadSigner
from entobot.config import Settings, StorageSettings
from entobot.core.clock import Clock
from entobot.core.ids import RandomIds
from entobot.core.secrets import Entropy
from entobot.devices.api_keys import ApiKeys
from entobot.devices.service import Devices
from entobot.devices.signing import SigningKeys
from entobot.devices.tokens import Tokens
from entobot.home import Home, Purpose, read_private, write_private
from entobot.pairing.transitions import Transitions
from entobot.storage.database import Database
from entobot.stream.service import Stream
from entobot.telemetry.meters import Meters


@dataclass(frozen=True, slots=True)
class Offline:
    """Start and stop `database` around its use. Nobody is connected, so that bells ring for nobody."""

    database: Database
    audit: Audit
    stream: Stream
    devices: Devices
    invites: Transitions


def open_offline(home: Home, storage: StorageSettings, clock: Clock, entropy: Entropy) -> Offline:
    """`home` has its keys. Raises StartupRefused."""
    keys = home.server_keys(entropy)
    ids = RandomIds(clock, entropy)
    database = open_database(home, storage, entropy, Meters())
    ring, audit_key = home.keys / "signing.json", home.keys / "audit.key"
    signing = SigningKeys.open(lambda: read_private(ring), lambda data: write_private(ring, data), clock.now_ms())
    signer = LocalHeadSigner.open(lambda: read_private(audit_key), lambda pem: write_private(audit_key, pem))
    bus = make_bus(Settings(), "", keys.key(Purpose.BUS), entropy)
    stream = Stream(bus, ids)
    audit = Audit(ids=ids, entropy=entropy, signer=signer, head_file=home.audit_head)
    accounts = Accounts(ids, stream)
    devices = Devices(
        database=database,
        clock=clock,
        ids=ids,
        audit=audit,
        stream=stream,
        accounts=accounts,
        bus=bus,
        keys=signing,
        tokens=Tokens(signing, "", keys.key(Purpose.REFRESH_TOKENS), entropy),
        api_keys=ApiKeys(keys.key(Purpose.API_KEYS), entropy),
        entropy=entropy,
        origin="",
    )
    return Offline(database, audit, stream, devices, Transitions(audit, accounts, devices, bus))
