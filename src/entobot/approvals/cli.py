"""`entobot approvals …`. Deciding signs with this terminal's own device key, like any phone."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from entobot.client.console import AsJson, only, place, say, show, table, told

app = typer.Typer(help="See what waits for a decision, and decide.", no_args_is_help=True, rich_markup_mode=None)
rules = typer.Typer(help="Rules that let calls through without asking.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(rules, name="rules")

Decision = Literal["approve", "deny"]


@app.command("list")
@told
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="'pending', or nothing for all.")] = "pending",
    as_json: AsJson = False,
) -> None:
    """Approvals that wait."""
    parameters = {} if state is None else {"state": state}
    rows = place(context).gateway.pages("/api/v1/approvals", **parameters)
    lines = [(row["approval_id"], row["state"], row["risk"], row["title"], row["expires_at"]) for row in rows]
    head = ("APPROVAL", "STATE", "RISK", "WHAT", "UNTIL")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="Nothing waits for a decision."))


@app.command()
@told
def decide(
    context: typer.Context,
    approval: Annotated[str, typer.Argument(help="The approval's id, or its end.")],
    decision: Annotated[Decision, typer.Argument(help="approve or deny.")],
    reason: Annotated[str | None, typer.Option(help="Told to the agent and kept.")] = None,
    digits: Annotated[str | None, typer.Option(help="For high risk: what the asking side shows.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Approve or deny one action. Shows the exact action first."""
    row = only(place(context).gateway.pages("/api/v1/approvals"), approval, "approval_id")
    if not as_json:
        say(f"{row['title']}\n{_pretty(row)}")
    if decision == "approve" and not yes:
        typer.confirm("Approve exactly this?", abort=True)
    result = asyncio.run(_decide(place(context).home, row, decision, (reason, digits)))
    show(result, as_json=as_json, human=lambda: say("Approved." if decision == "approve" else "Denied."))


async def _decide(
    home: Path, row: dict[str, Any], decision: Decision, said: tuple[str | None, str | None]
) -> dict[str, Any]:
    from entobot.client.events import Approval
    from entobot.client.terminal import terminal_client

    approval = Approval(**{name: row[name] for name in Approval.__struct_fields__})
    async with terminal_client(home) as client:
        client.ignore_events()
        return await client.decide(approval, decision, reason=said[0], number=said[1])


def _pretty(row: dict[str, Any]) -> str:
    return json.dumps(json.loads(row["action"]), indent=2, ensure_ascii=True)


@app.command("show")
@told
def show_one(
    context: typer.Context,
    approval: Annotated[str, typer.Argument(help="The approval's id, or its end.")],
    as_json: AsJson = False,
) -> None:
    """One approval: what it would do, who has answered, and what became of it."""
    gateway = place(context).gateway
    row = only(gateway.pages("/api/v1/approvals", state="all"), approval, "approval_id")
    if (
        row["needs_number"]
        and row["state"] == "pending"
        and row["for_user_id"] == gateway.request("GET", "/api/v1/me")["user_id"]
    ):
        row |= gateway.request("GET", f"/api/v1/approvals/{row['approval_id']}/number")
    show(row, as_json=as_json, human=lambda: _tell(row))


def _tell(row: dict[str, Any]) -> None:
    say(f"{row['title']}\n{_pretty(row)}\n")
    people = f"{row['quorum']} of those who may decide" if row["quorum"] > 1 else "one person"
    facts = [("for", row["for_name"]), ("risk", row["risk"]), ("state", row["state"]), ("needs", people)]
    facts += [("digits", row["number"])] if row.get("number") else []
    facts += [
        (name, row[f"{name}_at"])
        for name in ("expires", "escalated", "decided", "delivered", "consumed", "dropped")
        if row.get(f"{name}_at")
    ]
    table(facts, ("", ""), empty="")
    votes = [
        (v["name"], v["decision"], v["verified"], v["device_id"] or "", v["address"], v["at"]) for v in row["votes"]
    ]
    say()
    table(votes, ("WHO", "SAID", "BY", "DEVICE", "FROM", "AT"), empty="Nobody has answered yet.")


# -- rules


@rules.command("list")
@told
def list_rules(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="Of all people, not only your own.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rules, newest first: what they cover, until when, how often they were used."""
    whose = "all" if everybody else "mine"
    rows = place(context).gateway.pages("/api/v1/approval-rules", whose=whose)
    lines = [(r["rule_id"], r["state"], "; ".join(r["words"]), r["expires_at"], str(r["uses"])) for r in rows]
    head = ("RULE", "STATE", "COVERS", "UNTIL", "USES")
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="There are no rules."))


@rules.command("end")
@told
def end_rule(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(help="The rule's id, or its end.")],
    as_json: AsJson = False,
) -> None:
    """End a rule now: from then on a person is asked again."""
    gateway = place(context).gateway
    row = only(gateway.pages("/api/v1/approval-rules", whose="all"), rule, "rule_id")
    ended = gateway.request("DELETE", f"/api/v1/approval-rules/{row['rule_id']}")
    show(ended, as_json=as_json, human=lambda: say("Ended. A person is asked again."))
