"""`entobot users …`."""

from typing import Annotated, Any

import typer

from entobot.client.console import AsJson, hint, only, place, say, show, table, told

app = typer.Typer(help="Add people, give them roles, and shut them out.", no_args_is_help=True, rich_markup_mode=None)

Login = Annotated[str, typer.Argument(help="The person's login or id.")]
ROLES = "owner, admin, operator, member or viewer."


@app.command("list")
@told
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Everybody."""
    rows = _all(context)
    head = ("LOGIN", "NAME", "ROLE", "STATE", "SINCE", "USER")
    lines = [
        (row["login"], row["name"], row["role"], row["state"], row["created_at"][:10], row["user_id"]) for row in rows
    ]
    show(rows, as_json=as_json, human=lambda: table(lines, head, empty="Nobody yet."))


@app.command()
@told
def add(
    context: typer.Context,
    login: Annotated[str, typer.Argument(help="What they type to sign in; an e-mail address fits.")],
    name: Annotated[str | None, typer.Option(help="What is shown; the login without it.")] = None,
    role: Annotated[str, typer.Option(help=ROLES)] = "member",
    as_json: AsJson = False,
) -> None:
    """Add a person."""
    body = {"login": login, "name": name or login, "role": role}
    made = place(context).gateway.request("POST", "/api/v1/users", json=body)
    show(made, as_json=as_json, human=lambda: say(f"{made['login']} is added as {made['role']}."))


@app.command()
@told
def role(
    context: typer.Context,
    login: Login,
    role: Annotated[str, typer.Argument(help=ROLES)],
    as_json: AsJson = False,
) -> None:
    """Give a person another role; where it is a lesser one, their devices sign in anew."""
    row = _find(context, login)
    changed = place(context).gateway.request("PATCH", _path(row), json={"role": role})
    show(changed, as_json=as_json, human=lambda: say(f"{row['login']} is {changed['role']} now."))


@app.command()
@told
def rename(context: typer.Context, login: Login, name: str, as_json: AsJson = False) -> None:
    """Show a person under another name."""
    row = _find(context, login)
    changed = place(context).gateway.request("PATCH", _path(row), json={"name": name})
    show(changed, as_json=as_json, human=lambda: say(f"{row['login']} is shown as {changed['name']}."))


@app.command()
@told
def link(context: typer.Context, login: Login, as_json: AsJson = False) -> None:
    """Make a one-time link with which a person signs in; it voids the one before."""
    row = _find(context, login)
    made = place(context).gateway.request("POST", _path(row) + "/sign-in-link")

    def human() -> None:
        say(made["url"])
        hint(f"Give it to {row['login']} by a safe way. It signs in once, until {made['expires_at']}.")

    show(made, as_json=as_json, human=human)


@app.command("reset-factors")
@told
def reset_factors(context: typer.Context, login: Login, as_json: AsJson = False) -> None:
    """Take away all that a person signs in with, and sign them out; they come back by a link."""
    row = _find(context, login)
    place(context).gateway.request("POST", _path(row) + "/reset-factors")

    def human() -> None:
        say(f"{row['login']} has no passkey, password or authenticator app any more, and is signed out.")
        hint(f"entobot users link {row['login']} makes a link with which they come back.")

    show({"user_id": row["user_id"]}, as_json=as_json, human=human)


@app.command()
@told
def disable(context: typer.Context, login: Login, as_json: AsJson = False) -> None:
    """Shut a person out: their devices are revoked, what waits for them is cancelled; felt at once."""
    row = _find(context, login)
    changed = place(context).gateway.request("POST", _path(row) + "/disable")
    show(
        changed, as_json=as_json, human=lambda: say(f"{row['login']} is disabled, and every device of theirs revoked.")
    )


@app.command()
@told
def enable(context: typer.Context, login: Login, as_json: AsJson = False) -> None:
    """Let a person in again. Their devices have to be paired anew."""
    row = _find(context, login)
    changed = place(context).gateway.request("POST", _path(row) + "/enable")
    show(changed, as_json=as_json, human=lambda: say(f"{row['login']} is enabled. Pair their devices anew."))


def _path(row: dict[str, Any]) -> str:
    return f"/api/v1/users/{row['user_id']}"


def _all(context: typer.Context) -> list[dict[str, Any]]:
    return place(context).gateway.pages("/api/v1/users")


def _find(context: typer.Context, login: str) -> dict[str, Any]:
    return only(_all(context), login, "user_id", "login")
