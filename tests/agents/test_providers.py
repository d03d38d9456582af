"""Keys of providers where two nodes share a database: what one stores, the other uses, and never undoes."""

from dataclasses import dataclass

import pytest

from entobot.agents.key_seal import KeySeal
from entobot.agents.providers import Providers, read_providers
from entobot.audit.service import Audit
from entobot.core.errors import Code, Problem
from entobot.core.ids import RandomIds
from entobot.core.permissions import ALL_SCOPES
from entobot.core.principal import Principal
from entobot.settings.service import StoredSettings, read_stored
from entobot.sources import Layers
from entobot.storage.database_sqlite import SqliteDatabase
from tests.support.time import ManualClock, SeededEntropy

pytest.importorskip("pydantic_ai")
ON_EVERY_STORE = True
WHO = Principal("usr_owner", ALL_SCOPES)
URL = "http://127.0.0.1:9/v1"


@dataclass
class Node:
    settings: StoredSettings
    providers: Providers
    used: str | None = None
    """The key that its runner was built with last."""

    def rebuild(self) -> None:
        endpoint = self.providers.choose(self.settings.in_force.agent).endpoint
        self.used = None if endpoint is None else endpoint.api_key


class Nodes:
    def __init__(self, database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> None:
        self._parts = database, clock, entropy, ids
        self._audit = Audit(ids=ids, entropy=entropy, signer=None, head_file=None)
        self._seal = KeySeal(b"k" * 32, entropy)

    async def start(self) -> Node:
        database, clock, _, ids = self._parts
        stored = await read_stored(database)
        settings = StoredSettings(database, clock, self._audit, lambda *_: None, layers=Layers(), found=stored)
        rows = await read_providers(database)
        node = Node(settings, Providers(database, clock, ids, self._audit, settings, self._seal, {}, rows))
        node.providers.on_changed = node.rebuild
        node.rebuild()
        return node

    async def stored(self, name: str, address: str = "") -> str | None:
        row = (await read_providers(self._parts[0])).get(name)
        return None if row is None or row.sealed_key is None else self._seal.open(row.sealed_key, name, address)


@pytest.fixture
def nodes(database: SqliteDatabase, clock: ManualClock, entropy: SeededEntropy, ids: RandomIds) -> Nodes:
    return Nodes(database, clock, entropy, ids)


async def test_a_look_at_the_list_does_not_keep_a_node_on_a_key_that_was_replaced(nodes: Nodes) -> None:
    a, b = await nodes.start(), await nodes.start()
    await a.providers.put(WHO, "openai", api_key="old", sets_key=True)
    await b.settings.renew()
    assert b.used == "old"
    await a.providers.put(WHO, "openai", api_key="new", sets_key=True)
    assert next(one for one in await b.providers.view() if one.name == "openai").has_key
    await b.settings.renew()
    assert b.used == "new"


async def test_a_change_on_a_node_that_lags_behind_brings_no_removed_key_back(nodes: Nodes) -> None:
    a = await nodes.start()
    await a.providers.put(WHO, "openai", api_key="old", sets_key=True)
    b = await nodes.start()
    await a.providers.put(WHO, "openai", api_key=None, sets_key=True)
    await b.providers.put(WHO, "openai")
    assert await nodes.stored("openai") is None
    assert b.used is None


async def test_an_address_that_is_saved_again_leaves_the_key_of_another_node_alone(nodes: Nodes) -> None:
    a = await nodes.start()
    await a.providers.put(WHO, "compatible", base_url=URL, sets_url=True, api_key="old", sets_key=True)
    b = await nodes.start()
    await a.providers.put(WHO, "compatible", api_key="new", sets_key=True)
    await b.providers.put(WHO, "compatible", base_url=URL, sets_url=True)
    assert await nodes.stored("compatible", URL) == "new"
    assert b.used == "new"


@pytest.mark.parametrize("key", ["mine", None])
async def test_of_two_nodes_that_set_a_key_at_once_the_slower_is_told(
    nodes: Nodes, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await nodes.start()
    await a.providers.put(WHO, "openai", api_key="old", sets_key=True)
    b = await nodes.start()
    renew = b.providers.renew

    async def renewed() -> None:
        await renew()
        await a.providers.put(WHO, "openai", api_key="faster", sets_key=True)  # between the look and the unit

    monkeypatch.setattr(b.providers, "renew", renewed)
    with pytest.raises(Problem) as caught:
        await b.providers.put(WHO, "openai", api_key=key, sets_key=True)
    assert caught.value.code is Code.SETTINGS_CHANGED
    assert await nodes.stored("openai") == "faster"
