"""What all nodes of one database must have in common, checked before a node serves anybody."""

from dataclasses import dataclass

from entobot.core.errors import StartupRefused
from entobot.nodes import store
from entobot.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Identity:
    """`server_key` and `audit_key` are fingerprints, which tell nothing of the keys."""

    server_key: str
    audit_key: str
    origin: str
    name: str


def agree(tx: Transaction, mine: Identity, place: str) -> StartupRefused | None:
    """The first node says what holds; a later one has to be alike. Raises StartupRefused saying what to do.

    Origin and name may change when no node runs elsewhere than at `place`; keys never, since what is stored depends
    on them. Returned instead of raised is a refusal that ends when the others prove to be dead.
    """
    row = store.find_cluster(tx)
    if row is None:
        store.insert_cluster(
            tx, server_key=mine.server_key, audit_key=mine.audit_key, origin=mine.origin, name=mine.name
        )
        return None
    if row["server_key"] != mine.server_key or row["audit_key"] != mine.audit_key:
        raise StartupRefused(
            "This database belongs to a gateway with other keys. On a node that uses it run 'entobot node export FILE', "
            "bring the file here without letting anybody read it, and run 'entobot node join FILE'. "
            "For a gateway of its own give this one another database."
        )
    if row["origin"] == mine.origin and row["name"] == mine.name:
        return None
    if any(node.place != place for node in store.all_nodes(tx)):
        return StartupRefused(
            f"The nodes of this database are known as {row['name']!r} at {row['origin']}; this one would be "
            f"{mine.name!r} at {mine.origin}. Set gateway.public_url and gateway.name alike on every node. "
            "To change them, stop all nodes first."
        )
    store.change_cluster(tx, origin=mine.origin, name=mine.name)
    return None


def rename(tx: Transaction, name: str) -> None:
    """All nodes are known by another name from now on; part of the unit that sets it."""
    row = store.find_cluster(tx)
    if row is not None and row["name"] != name:
        store.change_cluster(tx, origin=row["origin"], name=name)
