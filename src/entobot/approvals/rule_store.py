"""The table of rules. A rule is used, and ended, by conditional updates: never after its end, on whatever node."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, bindparam, insert, literal_column, select, update

from entobot.approvals.model import Risk
from entobot.approvals.rule_model import Because, Rule
from entobot.storage.database import Row, Transaction, metadata
from entobot.storage.partial_index import partial_index

rules = Table(
    "approval_rules",
    metadata,
    Column("rule_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("conditions", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("approval_id", Text, nullable=False),
    Column("made_by_user_id", Text, nullable=False),
    Column("made_by_device_id", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("uses", BigInteger, nullable=False),
    Column("last_used_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("ended_by", Text),
    Column("ended_because", Text),
    Column("for_device_id", Text),
    Index("ix_approval_rules_user", "user_id", "rule_id"),
    Index("ix_approval_rules_maker", "made_by_user_id", "rule_id"),
    partial_index("ix_approval_rules_active", "user_id", "tool", where="ended_at_ms IS NULL"),
)

LAST = "~"
"""Sorts after every id: where a first page begins."""
_IS_OPEN = literal_column("ended_at_ms").is_(None)
_INSERT = insert(rules)
_BY_ID = select(rules).where(rules.c.rule_id == bindparam("rule"))
_ACTIVE_FOR = (
    select(rules)
    .where(
        rules.c.user_id == bindparam("user"),
        rules.c.tool == bindparam("tool_name"),
        _IS_OPEN,
        rules.c.expires_at_ms > bindparam("now"),
    )
    .order_by(rules.c.rule_id)
)
_ALL = (
    select(rules)
    .where(rules.c.rule_id < bindparam("before"))
    .order_by(rules.c.rule_id.desc())
    .limit(bindparam("count"))
)
_OF = _ALL.where((rules.c.user_id == bindparam("user")) | (rules.c.made_by_user_id == bindparam("user")))
_OPEN_OF = select(rules).where(
    (rules.c.user_id == bindparam("user")) | (rules.c.made_by_user_id == bindparam("user")),
    _IS_OPEN,
    rules.c.expires_at_ms > bindparam("now"),
)
_USE = (
    update(rules)
    .where(rules.c.rule_id == bindparam("rule"), _IS_OPEN, rules.c.expires_at_ms > bindparam("now"))
    .values(uses=rules.c.uses + 1, last_used_at_ms=bindparam("now"))
)
_END = (
    update(rules)
    .where(rules.c.rule_id == bindparam("rule"), _IS_OPEN, rules.c.expires_at_ms > bindparam("now"))
    .values(ended_at_ms=bindparam("now"), ended_by=bindparam("by"), ended_because=bindparam("because"))
)


def insert_rule(tx: Transaction, rule: Rule) -> None:
    tx.run(
        _INSERT,
        {
            "rule_id": rule.rule_id,
            "user_id": rule.user_id,
            "tool": rule.tool,
            "text": rule.text,
            "conditions": rule.conditions_json,
            "risk": rule.risk,
            "approval_id": rule.approval_id,
            "made_by_user_id": rule.made_by_user_id,
            "made_by_device_id": rule.made_by_device_id,
            "created_at_ms": rule.created_at_ms,
            "expires_at_ms": rule.expires_at_ms,
            "uses": rule.uses,
            "for_device_id": rule.for_device_id,
        },
    )


def find_rule(tx: Transaction, rule_id: str) -> Rule | None:
    row = tx.first(_BY_ID, {"rule": rule_id})
    return None if row is None else _rule(row)


def active_for(tx: Transaction, user_id: str, tool: str, now_ms: int) -> list[Rule]:
    """Oldest first."""
    return [_rule(row) for row in tx.rows(_ACTIVE_FOR, {"user": user_id, "tool_name": tool, "now": now_ms})]


def page(tx: Transaction, user_id: str | None, before: str, count: int) -> list[Rule]:
    """Newest first: of this person, whose runs or whose making; None: everybody's."""
    if user_id is None:
        return [_rule(row) for row in tx.rows(_ALL, {"before": before, "count": count})]
    return [_rule(row) for row in tx.rows(_OF, {"user": user_id, "before": before, "count": count})]


def open_of(tx: Transaction, user_id: str, now_ms: int) -> list[Rule]:
    return [_rule(row) for row in tx.rows(_OPEN_OF, {"user": user_id, "now": now_ms})]


def use(tx: Transaction, rule_id: str, now_ms: int) -> bool:
    """False when it ended or expired."""
    return tx.run(_USE, {"rule": rule_id, "now": now_ms}) == 1


def end(tx: Transaction, rule_id: str, *, by: str, because: Because, now_ms: int) -> bool:
    """False when it had ended or expired before."""
    return tx.run(_END, {"rule": rule_id, "by": by, "because": because, "now": now_ms}) == 1


def _rule(row: Row) -> Rule:
    used, ended, because = row["last_used_at_ms"], row["ended_at_ms"], row["ended_because"]
    return Rule(
        rule_id=row["rule_id"],
        user_id=row["user_id"],
        tool=row["tool"],
        text=row["text"],
        conditions_json=row["conditions"],
        risk=Risk(row["risk"]),
        approval_id=row["approval_id"],
        made_by_user_id=row["made_by_user_id"],
        made_by_device_id=row["made_by_device_id"],
        created_at_ms=int(row["created_at_ms"]),
        expires_at_ms=int(row["expires_at_ms"]),
        uses=int(row["uses"]),
        last_used_at_ms=None if used is None else int(used),
        ended_at_ms=None if ended is None else int(ended),
        ended_by=row["ended_by"],
        ended_because=None if because is None else Because(because),
        for_device_id=row["for_device_id"],
    )
