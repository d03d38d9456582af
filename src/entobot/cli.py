"""The command tree. Each feature adds its own commands; heavy modules are imported by the command that needs them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from entobot.accounts import cli as accounts_cli
from entobot.agents import cli as agents_cli
from entobot.alerts import cli as alerts_cli
from entobot.app import cli as app_cli
from entobot.approvals import cli as approvals_cli
from entobot.audit import cli as audit_cli
from entobot.automations import cli as automations_cli
from entobot.backup import cli as backup_cli
from entobot.client import cli as client_cli
from entobot.client.console import AsJson, Exit, Place, give_up, hint, place, say, table, told
from entobot.devices import cli as devices_cli
from entobot.enrolment import cli as enrolment_cli
from entobot.mcp import cli as mcp_cli
from entobot.mqtt import bridge_cli
from entobot.mqtt.cli import simulate_things
from entobot.notifications import cli as notifications_cli
from entobot.pairing import cli as pairing_cli
from entobot.policies import cli as policies_cli
from entobot.things import cli as things_cli
from entobot.updates import cli as updates_cli

root = typer.Typer(
    name="entobot",
    help="A self-hosted gateway between AI agents and your phone.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config = typer.Typer(help="Show and check the settings.", no_args_is_help=True, rich_markup_mode=None)

node = typer.Typer(help="Run one gateway on several machines.", no_args_is_help=True, rich_markup_mode=None)

Home = Annotated[
    Path,
    typer.Option("--home", envvar="ENTOBOT_HOME", help="The data folder.", file_okay=False, show_default="~/.entobot"),
]


@root.callback()
def at(context: typer.Context, home: Home = Path("~/.entobot")) -> None:
    """A self-hosted gateway between AI agents and your phone."""
    context.obj = Place(home.expanduser().absolute())


@root.command()
@told
def up(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The one port.", min=0, max=65535)] = None,
    ws_port: Annotated[int | None, typer.Option(help="A second port, WebSocket only.", min=0, max=65535)] = None,
    agent: Annotated[str | None, typer.Option(help="Who answers: auto, echo, llm or none.")] = None,
    public_url: Annotated[str | None, typer.Option(help="The origin that phones use.")] = None,
    pair: Annotated[bool, typer.Option("--pair", help="Show a QR code and pair a phone.")] = False,
) -> None:
    """Start the gateway and keep it running."""
    from entobot.app.lean import load_run

    run = load_run()
    overrides: dict[str, dict[str, object]] = {}
    for section, key, value in (
        ("gateway", "host", host),
        ("gateway", "port", port),
        ("gateway", "ws_port", ws_port),
        ("gateway", "public_url", public_url),
        ("agent", "runner", agent),
    ):
        if value is not None:
            overrides.setdefault(section, {})[key] = value
    raise typer.Exit(run(place(context), overrides, pair=pair))


@root.command()
@told
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check this installation and say what to do about each finding."""
    from entobot.app.doctor import examine

    findings = examine(place(context).home)
    if as_json:
        say(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            say(finding.to_text())
    if any(finding.is_failure for finding in findings):
        raise typer.Exit(Exit.REFUSED)


@root.command("upgrade-check")
@told
def upgrade_check(context: typer.Context, as_json: AsJson = False) -> None:
    """What this version would do to the store, and whether there is a way back. Run it before the first 'entobot up'."""
    import asyncio

    from entobot.app.upgrading import check_upgrade
    from entobot.core.clock import SystemClock
    from entobot.home import Home as DataFolder
    from entobot.sources import load, system_environment

    home = DataFolder(place(context).home)
    found = asyncio.run(check_upgrade(home, load(home.path, system_environment()).storage, SystemClock()))
    say(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.to_lines()))
    if not found.is_safe:
        raise typer.Exit(Exit.REFUSED)


@root.command()
@told
def metrics(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Beginning of a metric's name.")] = "entobot_",
    raw: Annotated[bool, typer.Option("--raw", help="Everything, as Prometheus reads it.")] = False,
) -> None:
    """What the running gateway counts and measures."""
    text = place(context).gateway.text("/metrics")
    if raw:
        say(text.rstrip())
        return
    from entobot.client.metrics import readable

    table(readable(text, prefix=prefix), ("METRIC", "VALUE"), empty=f"No metric begins with '{prefix}'.")


@root.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from entobot import __version__

    say(json.dumps({"version": __version__}) if as_json else __version__)


@config.command("show")
@told
def config_show(context: typer.Context, as_json: AsJson = False) -> None:
    """Every setting, its value and where it comes from. Secrets are never printed."""
    from entobot.app.settings import describe_settings

    rows, left_out = describe_settings(place(context).home)
    for sentence in left_out:
        hint(sentence)
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    for row in rows:
        say(f"{row['key']} = {row['value']}   ({row['source']}; {row['description']})")


@config.command("check")
@told
def config_check(context: typer.Context, as_json: AsJson = False) -> None:
    """Whether the gateway would start with these settings."""
    from entobot.app.settings import check_settings

    problems = check_settings(place(context).home)
    if as_json:
        say(json.dumps({"ok": not problems, "problems": problems}, indent=2))
    if problems:
        give_up("\n".join(problems) if not as_json else "", Exit.REFUSED)
    if not as_json:
        say("The settings are right.")


@config.command("unset")
@told
def config_unset(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(help="As 'entobot config show' names them: gateway.allowed_networks")],
    as_json: AsJson = False,
) -> None:
    """Take back what is stored under these keys, so that file or default hold. Works without a running gateway too."""
    from entobot.app.stored import unset

    taken = unset(place(context), keys)
    if as_json:
        say(json.dumps({"unset": taken}, indent=2))
        return
    for key in keys:
        say(f"{key}: {'taken back.' if key in taken else 'nothing is stored.'}")


@node.command("export")
@told
def node_export(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="Written anew, readable by you alone.")]
) -> None:
    """Write what another node needs into a file: keys and certificates. Whoever has it can be this gateway."""
    from entobot.home import Home
    from entobot.nodes.bundle import export_node

    names = export_node(Home(place(context).home), file)
    say(f"Written to {file}: {', '.join(names)}. Bring it to the new node by a safe way, then delete it.")


@node.command("join")
@told
def node_join(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="What 'entobot node export' wrote.")]
) -> None:
    """Make this data folder another node of the same gateway."""
    from entobot.home import Home
    from entobot.nodes.bundle import join_nodes

    join_nodes(Home(place(context).home), file)
    say("Done. Set storage.url, gateway.public_url and gateway.name as on the other nodes, then 'entobot up'.")


root.add_typer(alerts_cli.app, name="alerts")
root.add_typer(approvals_cli.app, name="approvals")
root.add_typer(audit_cli.app, name="audit")
root.add_typer(backup_cli.app, name="backup")
root.add_typer(app_cli.certificate, name="cert")
root.add_typer(config, name="config")
root.add_typer(app_cli.store, name="db")
root.add_typer(devices_cli.app, name="devices")
root.add_typer(enrolment_cli.app, name="enrolment")
root.add_typer(bridge_cli.app, name="mqtt")
root.add_typer(node, name="node")
root.add_typer(notifications_cli.app, name="notifications")
root.add_typer(pairing_cli.app, name="pair")
root.add_typer(automations_cli.app, name="automations")
root.add_typer(policies_cli.app, name="policy")
root.add_typer(things_cli.app, name="things")
root.add_typer(updates_cli.app, name="updates")
root.add_typer(accounts_cli.app, name="users")
root.command("chat")(agents_cli.chat)
root.command("mcp")(mcp_cli.mcp)
root.command("approve-hook")(mcp_cli.approve_hook)
root.command("notify")(notifications_cli.notify)
root.command("restore")(backup_cli.restore)
simulations = typer.Typer(rich_markup_mode=None)
simulations.callback(invoke_without_command=True)(client_cli.simulate)
simulations.command("things")(simulate_things)
root.add_typer(simulations, name="simulate")
