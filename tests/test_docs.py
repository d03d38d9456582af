"""Documentation is part of the product: what it names exists, what exists is named, what it shows runs."""

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import rfc8785
from tools import reference

from entobot.agents.runner import RETRYABLE as RETRYABLE_RUN_ERRORS
from entobot.audit.events import AuditEvent
from entobot.client.keys import DeviceKey
from entobot.config import Settings
from entobot.core.access import COMMANDS, ROUTES
from entobot.core.errors import RETRYABLE, STATUS, Code, Problem
from entobot.core.permissions import Scope
from entobot.core.secrets import normalise_code, sha256_b64u
from entobot.devices.dpop import verify_proof
from entobot.devices.keys import parse_public_jwk, verify_compact
from entobot.gateway import simple, wire
from entobot.gateway.wire import Close
from entobot.pairing import proof as pairing_proof
from entobot.storage.database import metadata
from entobot.telemetry.metrics import LABELS, Metric
from entobot.web.pages import load_pages
from tests.support.phone import Phone, authenticate, connected, raw_socket
from tests.support.process import GENEROUS_S, GatewayProcess
from tests.support.stores import load_tables

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SCHEMAS = DOCS / "schema" / "v1"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = sorted([*TOP, *DOCS.rglob("*.md")])
POINT = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
"""A point of P-256: the receiver's key of RFC 8291 §5."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def prose_of(path: Path) -> str:
    """Without code blocks."""
    return FENCE.sub("", text_of(path))


@cache
def generated() -> dict[Path, str]:
    return reference.documents()


def block(page: str, name: str) -> str:
    """The code block that is marked `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)^```", text_of(ROOT / page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block marked {name}"
    return found[1]


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def json_schema(name: str) -> dict[str, Any]:
    return json.loads(text_of(SCHEMAS / f"{name}.json"))


# -- generated pages


def test_the_reference_and_the_schemas_are_what_the_code_says_now() -> None:
    """In a process of its own, as `make docs` makes them: other tests leave things behind in this one."""
    made = subprocess.run(
        [sys.executable, "-m", "tools.reference", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout) == (0, ""), f"run `make docs`\n{made.stderr}"


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("docs/how-to/alerts.md", "alerts-notification"),
        ("docs/how-to/invite-by-sms.md", "sms-approvals"),
    ],
)
def test_settings_that_a_page_shows_can_be_used(page: str, name: str) -> None:
    Settings.model_validate(tomllib.loads(block(page, name)))


def test_no_reference_page_is_left_over() -> None:
    assert {path.relative_to(ROOT) for path in (DOCS / "reference").iterdir()} == {
        path for path in generated() if path.parent == reference.REFERENCE
    }


def test_every_setting_is_described() -> None:
    page = text_of(DOCS / "reference" / "settings.md")
    for name, section in Settings():
        for key, field in type(section).model_fields.items():
            assert field.description, f"{name}.{key}"
            assert f"`ENTOBOT_{name}__{key}`".upper() in page.upper()


@pytest.mark.parametrize(
    "name", ["settings", "errors", "close-codes", "commands", "events", "access", "metrics", "rest", "scopes", "cli"]
)
def test_the_index_of_the_reference_names_every_page(name: str) -> None:
    assert f"({name}.md)" in text_of(DOCS / "reference" / "README.md")


def test_every_error_says_what_happened_and_what_to_do() -> None:
    page = text_of(DOCS / "how-to" / "troubleshoot.md")
    sections = dict(re.findall(r"^### `(\w+)`\n\n(.+?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == [str(code) for code in Code]
    assert [code for code, said in sections.items() if len(said.split()) < 6] == []


def test_the_page_that_problems_link_to_says_what_the_reference_says() -> None:
    page = load_pages(Path("nowhere")).find("/docs/errors")
    assert page is not None
    served = page.body.decode()
    for code in Code:
        retry = "yes" if code in RETRYABLE else "no"
        assert f'<tr id="{code}"><td><code>{code}</code></td><td>{STATUS[code]}</td><td>{retry}</td>' in served
        assert f"#{code}) | {STATUS[code]} | {retry} |" in text_of(DOCS / "reference" / "errors.md")


@pytest.mark.parametrize("close", list(Close))
def test_every_close_code_has_a_reason_and_an_advice(close: Close) -> None:
    row = re.search(
        rf"^\| {close.value} \| `{close.name.lower()}` \| (.+) \| (.+) \|$", _reference("close-codes"), re.MULTILINE
    )
    assert row
    comes_back = close.value < 4500
    assert comes_back == (not row[2].startswith(("Stop", "Do not")))


def _reference(name: str) -> str:
    return text_of(DOCS / "reference" / f"{name}.md")


@pytest.mark.parametrize("event", list(AuditEvent))
def test_every_audit_event_has_a_meaning(event: AuditEvent) -> None:
    assert re.search(rf"^\| `{event}` \| .{{20,}} \|$", _reference("audit-events"), re.MULTILINE)


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_and_its_labels_have_a_meaning(metric: Metric) -> None:
    assert re.search(
        rf"^\| `{metric.value.name}` \| {metric.value.kind} \| .* \| .{{20,}} \|$", _reference("metrics"), re.MULTILINE
    )
    for label in metric.value.labels:
        assert re.search(rf"^\| `{label}` \| .{{10,}} \|$", _reference("metrics"), re.MULTILINE), label


def test_every_label_that_is_explained_is_used() -> None:
    assert set(LABELS) == {label for metric in Metric for label in metric.value.labels}


@pytest.mark.parametrize("scope", list(Scope))
def test_every_scope_has_a_meaning(scope: Scope) -> None:
    assert re.search(rf"^\| `{scope}` \| .{{15,}} \| .+ \| .+ \|$", _reference("scopes"), re.MULTILINE)


@pytest.mark.parametrize("name", [*ROUTES, *COMMANDS])
def test_every_route_and_command_says_who_may_call_it(name: str) -> None:
    assert re.search(rf"^\| `{re.escape(name)}` \| .+ \|", _reference("access"), re.MULTILINE)


def test_every_route_that_is_served_is_in_the_openapi_document() -> None:
    paths = json_schema("openapi")["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    hidden = {"GET /ca.crt", "GET /ca.mobileconfig", "GET /api/openapi.json", "GET /api/docs"}
    served = {
        f"{route}"
        for route in ROUTES
        if re.search(rf"^\| `{re.escape(route)}` \| .+ \|  \|$", _reference("access"), re.MULTILINE)
    }
    assert served - described == hidden
    assert described <= served


def test_the_phone_offers_to_send_again_after_the_errors_that_the_gateway_calls_retryable() -> None:
    source = text_of(ROOT / "web" / "src" / "phone" / "protocol" / "again.ts")
    offered = re.findall(r'^  "(\w+)",$', source.partition("new Set([")[2].partition("]")[0], re.MULTILINE)
    assert offered == sorted(RETRYABLE_RUN_ERRORS)


# -- links and names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken: list[str] = []
    for link in (first or second for first, second in LINK.findall(prose_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    assert page in reachable() or page.name == "template.md"


@cache
def reachable() -> frozenset[Path]:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for link in (first or second for first, second in LINK.findall(prose_of(page))):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists():
                waiting.append(target)
    return frozenset(seen)


def where_is() -> Iterator[tuple[str, str]]:
    section = text_of(DOCS / "architecture.md").partition("## Where is …?")[2].partition("\n## ")[0]
    for place in re.findall(r"\| `([^`]+)` \|$", section, re.MULTILINE):
        path, _, name = place.partition(": ")
        yield path, name


def test_the_table_of_places_is_worth_reading() -> None:
    assert len(list(where_is())) >= 25


@pytest.mark.parametrize(("path", "name"), list(where_is()))
def test_every_place_in_the_table_exists(path: str, name: str) -> None:
    file = ROOT / path
    assert file.is_file()
    if name:
        tree = ast.parse(file.read_text("utf-8"))
        defined = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        defined |= {
            target.id
            for node in tree.body
            for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
            if isinstance(target, ast.Name)
        }
        assert name in defined


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "src" / "entobot").glob("*/__init__.py")))
def test_every_package_is_placed_in_the_architecture(name: str) -> None:
    layers = text_of(DOCS / "architecture.md").partition("## The layers")[2].partition("\n## ")[0]
    assert re.search(rf"^(\w+ \| )?{name}\b", layers, re.MULTILINE)


def test_the_layers_are_told_in_the_order_that_is_enforced() -> None:
    contracts = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["containers"] == ["entobot"])
    drawn = text_of(DOCS / "architecture.md").partition("## The layers")[2]
    drawn = re.findall(r"^((?:\w+ \| )*\w+)(?:  +.*)?$", drawn.split("```")[1], re.MULTILINE)
    assert drawn == layers


def test_every_table_has_an_owner_in_the_architecture() -> None:
    load_tables()
    section = text_of(DOCS / "architecture.md").partition("## Storage")[2].partition("\n## ")[0]
    assert [name for name in metadata.tables if f"`{name}`" not in section] == []


def named_tests() -> list[str]:
    pages = text_of(DOCS / "security.md") + text_of(DOCS / "reliability.md")
    return sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", pages)))


def test_every_promise_of_reliability_names_a_test() -> None:
    section = text_of(DOCS / "reliability.md").partition("## The promises")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| .+? \| (.+) \|$", section, re.MULTILINE)
    assert [number for number, _ in rows] == [str(place + 1) for place in range(len(rows))]
    assert [number for number, named in rows if "`tests/" not in named] == []
    assert len(rows) > 10


@pytest.mark.parametrize("name", named_tests())
def test_every_test_that_a_promise_relies_on_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_line_of_what_must_never_happen_has_tests_or_says_that_it_has_none() -> None:
    section = text_of(DOCS / "security.md").partition("## What must never happen")[2]
    rows = dict(re.findall(r"^\| (\d+) \| (?:.+?) \| (.+) \|$", section, re.MULTILINE))
    assert list(rows) == [str(number) for number in range(1, 31)]
    assert [number for number, said in rows.items() if "`tests/" not in said and "Not covered" not in said] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^|[^\w])make ([a-z-]+)(?=[` ]| *#|$)", _commands_of(page), re.MULTILINE))
    assert named <= targets


def _commands_of(page: Path) -> str:
    """What stands as code: in blocks or between backticks."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text_of(page), re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", prose_of(page))])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_that_is_shown_exists(page: Path) -> None:
    known = set(re.findall(r"^## `(entobot[^`]*)`$", _reference("cli"), re.MULTILINE))
    groups = {"entobot", *(name.rpartition(" ")[0] for name in known)}
    for found in re.findall(r"(?:^|[`/ '])entobot((?: [a-z][a-z-]*){1,3})", _commands_of(page), re.MULTILINE):
        words = found.split()
        names = [" ".join(["entobot", *words[:count]]) for count in range(1, len(words) + 1)]
        assert names[0] in known or names[0] in groups, found
        assert known & set(names), found


def test_both_commands_of_the_readme_stand_at_its_beginning() -> None:
    first = re.findall(r"```sh\n(.*?)```", text_of(ROOT / "README.md"), re.DOTALL)[0]
    assert [line.split("#")[0].strip() for line in first.strip().splitlines()] == ["make run", "make test"]


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    named = [*project["project"]["dependencies"]]
    for group in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        named += group
    page = text_of(DOCS / "adr" / "dependencies.md")
    packages = {re.match(r"[\w.-]+", one)[0] for one in named}  # pyright: ignore[reportOptionalSubscript]  a name stands there
    explained = set(re.findall(r"^\| ([a-z][a-z0-9-]+) \| .+ \| .+ \| .+ \| .+ \|$", page, re.MULTILINE))
    assert explained - {"package"} == packages


def test_every_decision_is_in_the_index() -> None:
    index = text_of(DOCS / "adr" / "README.md")
    assert [path.name for path in sorted((DOCS / "adr").glob("0*.md")) if f"({path.name})" not in index] == []


def test_no_page_says_where_it_was_written() -> None:
    private = re.compile(r"/(work|root|tmp|opt)/|\bissue #?\d|(?<![\w(])#\d{2,}\b", re.IGNORECASE)
    assert [str(page) for page in PAGES if private.search(text_of(page))] == []


# -- what is shown works


def test_the_vectors_of_the_protocol_verify() -> None:
    vectors = json.loads(block("docs/protocol.md", "vectors"))
    origin, now_ms = "https://gateway.example:18790", 1_795_167_000_000
    secret_key = re.search(r"scalar\) is `([^`]+)`", text_of(DOCS / "protocol.md"))
    assert secret_key
    assert DeviceKey.from_text(secret_key[1]).jwk == vectors["public_key"]
    key = parse_public_jwk(vectors["public_key"])
    assert key.thumbprint == vectors["thumbprint"]
    given = vectors["pairing"]
    assert sha256_b64u(given["secret"]) == given["sth"]
    pairing_proof.verify(
        given["proof"], key, origin=origin, invite_id=given["invite_id"], secret=given["secret"], now_ms=now_ms
    )
    given = vectors["pairing_by_code"]
    assert normalise_code(given["typed"]) == given["normalised"]
    pairing_proof.verify(given["proof"], key, origin=origin, invite_id=None, secret=given["normalised"], now_ms=now_ms)
    given = vectors["request"]
    assert sha256_b64u(given["access_token"]) == given["ath"]
    shown = verify_proof(
        given["proof"],
        method=given["method"],
        url=origin + given["path"],
        now_ms=now_ms,
        access_token=given["access_token"],
        nonce=None,
    )
    assert shown.thumbprint == key.thumbprint
    given = vectors["websocket"]
    verify_proof(
        given["proof"],
        method="GET",
        url=f"{origin}/ws",
        now_ms=now_ms,
        access_token=given["access_token"],
        nonce=given["nonce"],
    )
    given = vectors["approval"]
    assert sha256_b64u(given["action"]) == given["action_sha256"]
    signed = verify_compact(
        given["signature"], key, typ="entobot-approval+jwt", header_members=frozenset({"alg", "typ"}), max_bytes=8192
    )
    assert (signed["action_sha256"], signed["decision"]) == (given["action_sha256"], given["decision"])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("docs") / "home").start()
    yield process
    process.close()


def test_the_client_of_the_how_to_pairs_talks_and_approves(gateway: GatewayProcess, tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text(block("docs/how-to/write-a-client.md", "client"), "utf-8")
    invite = gateway.ask("pair")
    arguments = [invite["url"], str(gateway.home / "tls" / "ca.crt"), "!note buy milk"]
    with subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        digits = client.stdout.readline().split()[1]
        assert gateway.cli("pair", "confirm", invite["invite_id"], digits).returncode == 0
        told, _ = client.communicate(timeout=GENEROUS_S)
    assert client.returncode == 0
    assert told.splitlines()[-1] == "answer: noted: buy milk"


def test_the_programs_of_the_library_pair_and_talk(gateway: GatewayProcess, tmp_path: Path) -> None:
    programs: list[str] = []
    for name in ("library-pair", "library-talk"):
        program = tmp_path / f"{name}.py"
        program.write_text(block("docs/how-to/client-library.md", name), "utf-8")
        programs.append(str(program))
    file = str(tmp_path / "device.json")
    invite = gateway.ask("pair")
    first = [sys.executable, programs[0], invite["url"], file]
    with subprocess.Popen(first, env=gateway.environment, stdout=subprocess.PIPE, text=True) as pairing:
        assert pairing.stdout is not None
        digits = pairing.stdout.readline().split()[1]
        assert gateway.cli("pair", "confirm", invite["invite_id"], digits).returncode == 0
        assert pairing.communicate(timeout=GENEROUS_S)[0] == "paired\n"
    second = [sys.executable, programs[1], file, "!note buy milk"]
    told = subprocess.run(
        second, env=gateway.environment, capture_output=True, text=True, timeout=GENEROUS_S, check=False
    )
    assert told.returncode == 0, told
    assert told.stdout.splitlines() == ["note", "{", '  "text": "buy milk"', "}", "answer: noted: buy milk"]


# -- schemas


def validator(schema: dict[str, Any], *, strict: bool = False) -> Any:
    """`strict` also refuses members that the schema does not name: what we send must be written down."""
    known = {one["$id"]: one for one in map(json_schema, ("rows", "events"))}
    if strict:
        schema = _closed(schema)
        known = {name: _closed(one) for name, one in known.items()}
    return jsonschema_rs.Draft202012Validator(schema, registry=jsonschema_rs.Registry(list(known.items())))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _closed(value) for name, value in node.items()}
    if "properties" in found and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def part(name: str, *pointer: str) -> dict[str, Any]:
    """One definition of a schema file, as a schema that can resolve the file's other definitions."""
    whole = json_schema(name)
    return {"$schema": whole["$schema"], "$id": whole["$id"], "$defs": whole["$defs"]} | {
        "$ref": "#/$defs/" + "/".join(pointer)
    }


@pytest.mark.parametrize("name", ["commands", "events", "frames", "results", "rows", "simple"])
def test_every_schema_is_one_and_says_who_it_is(name: str) -> None:
    schema = json_schema(name)
    assert schema["$id"] == f"{reference.SCHEMA_BASE}/{name}.json"
    jsonschema_rs.meta.validate(schema)


def test_every_command_has_a_schema_for_its_data_and_its_result() -> None:
    assert set(json_schema("commands")["$defs"]) == set(COMMANDS)
    assert set(json_schema("results")["$defs"]) == set(COMMANDS)


def test_every_event_that_the_code_sends_has_a_schema() -> None:
    sent: set[str] = set()
    for path in (ROOT / "src" / "entobot").rglob("*.py"):
        if path.parent.name == "gateway":
            continue  # frames, which frames.json describes
        text = path.read_text("utf-8")
        sent |= set(re.findall(r'"type": "([A-Z][A-Z_]+|[a-z_]+\.[a-z_]+)"', text))
        sent |= set(re.findall(r'_(?:tell|append|to_all)\([^"]*"([a-z_]+\.[a-z_]+)"', text))
    known = {name for name, one in json_schema("events")["$defs"].items() if "x-durable" in one}
    assert sent == known
    assert all(f"`{name}`" in _reference("events") for name in known)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("frames", wire.reauth("AAECAwQFBgcICQoLDA0ODw")),
        ("frames", wire.reauthed(300)),
        ("frames", wire.reset("expired")),
        ("frames", wire.error(Problem(Code.RATE_LIMITED, "Wait.", retry_after_s=0.5))),
        ("frames", wire.snapshots(1, {"conversations": [], "pending_approvals": [], "unread": 0}, max_bytes=2000)[0]),
        ("simple", simple.auth_success("dev_1", "Board")),
        ("simple", simple.auth_success("dev_1", "Board", "ent_key_x")),
        ("simple", simple.pairing_pending("402918")),
        ("simple", simple.ack("msg_1")),
        ("simple", simple.message("hello")),
        ("simple", simple.error("Wait.", "rate_limited")),
        ("simple", wire.PONG),
    ],
    ids=lambda value: value if isinstance(value, str) else value.decode()[:24],
)
def test_rarer_frames_are_as_the_schemas_say_too(name: str, frame: bytes) -> None:
    validator(part(name, "server"), strict=True).validate(json.loads(frame))


async def test_every_frame_of_a_whole_story_is_as_the_schemas_say(gateway: GatewayProcess) -> None:
    device = await asyncio.to_thread(gateway.pair, "Schemas")
    sent: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    async with raw_socket(gateway) as socket:
        frames.append(await authenticate(socket, device))
    async with connected(gateway, device) as phone:
        await _live(phone, sent)
        frames += phone.frames
        position = {"stream": phone.frames[0]["stream"], "after": 1}
    async with connected(gateway, device, position) as phone:
        await phone.until(lambda frame: frame["type"] == "resume_done")
        frames += phone.frames
    server = validator(part("frames", "server"), strict=True)
    for frame in frames:
        server.validate(frame)
        if frame["type"] == "event":
            validator(part("events", frame["event"]["type"]), strict=True).validate(frame["event"])
    assert {"hello", "ready", "reset", "snapshot", "result", "error", "event", "pong", "resume_done"} <= {
        frame["type"] for frame in frames
    }
    results = {frame["id"]: frame["data"] for frame in frames if frame["type"] == "result"}
    for command in sent:
        validator(part("frames", "client")).validate(command)
        validator(part("commands", command["name"])).validate(command["data"])
        if command["id"] in results:
            validator(part("results", command["name"]), strict=True).validate(results[command["id"]])
    assert {command["name"] for command in sent} == set(COMMANDS)


async def _live(phone: Phone, sent: list[dict[str, Any]]) -> None:
    """Use every command once."""

    async def command(name: str, **data: Any) -> dict[str, Any]:
        sent.append({"type": "command", "id": phone.device.new_id(), "name": name, "data": data})
        return (await phone.command(name, data, sent[-1]["id"])).get("data", {})

    made = await command("conversation.create", title="Milk")
    conversation_id = made["conversation_id"]
    await command("conversation.rename", conversation_id=conversation_id, title="Groceries")
    await command("message.send", content="hello", conversation_id=conversation_id)
    finished = await phone.until_event("RUN_FINISHED")
    await command("message.send", content="!note buy milk", conversation_id=conversation_id)
    asked = (await phone.until_event("approval.requested"))["data"]
    await command("approval.list")
    await command("approval.number", approval_id=asked["approval_id"])
    await command("approval.check_edit", approval_id=asked["approval_id"], edited_action=asked["action"])
    signed = await asyncio.to_thread(_signed, phone, asked)
    await command("approval.decide", **signed)
    await phone.until_event("RUN_FINISHED")
    await command("message.send", content="!note buy milk", conversation_id=conversation_id)
    rule_id = (await phone.until_event("approval.allowed"))["data"]["rule_id"]
    await command("approval_rule.list")
    await command("approval_rule.end", rule_id=rule_id)
    await command("approval.list", state="all")
    await command("conversation.list")
    await command("conversation.search", query="groceries")
    await command("conversation.history", conversation_id=conversation_id)
    await command("device.rename", device_name="Renamed")
    await command("notification.read")
    keys = {"p256dh": POINT, "auth": "AAECAwQFBgcICQoLDA0ODw"}
    await command("push.subscribe", endpoint="https://push.example/one", keys=keys)
    await command("push.unsubscribe")
    await command("question.list")
    await command("question.answer", question_id=await _asked(phone), answer="at seven")
    await command("question.decline", question_id=await _asked(phone))
    await command("events.ack", seq=phone.seen)
    await command("run.cancel", run_id=finished["runId"])
    await command("conversation.rename", conversation_id="nothing", title="refused")
    await phone.send({"type": "ping"})
    await phone.until(lambda frame: frame["type"] == "pong")


async def _asked(phone: Phone) -> str:
    """By a program with the phone's credentials."""
    question = {"text": "When is dinner?"}
    asked = await asyncio.to_thread(phone.device.request, "POST", "/api/v1/questions", json=question)
    return asked["question_id"]


def _signed(phone: Phone, approval: dict[str, Any]) -> dict[str, Any]:
    from entobot.client.proofs import decision_signature

    device = phone.device
    wish = {"args": {"text": {"is": "buy milk"}}, "ends_in_s": 60, "tool": "note"}
    rule = rfc8785.dumps(wish | {"approval_id": approval["approval_id"]}).decode()
    signature = decision_signature(
        device.key,
        origin=device.origin,
        approval_id=approval["approval_id"],
        decision="approve",
        action=approval["action"],
        now_ms=device.clock.now_ms(),
        entropy=device.entropy,
        rule=rule,
    )
    return {
        "approval_id": approval["approval_id"],
        "decision": "approve",
        "rule": rule,
        "action_sha256": approval["action_sha256"],
        "signature": signature,
    }


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "auth"},
        {"type": "auth", "token": "t"},
        {"type": "auth", "api_key": "k", "ticket": "t"},
        {"type": "command", "id": "short", "name": "message.send"},
        {"type": "ack", "seq": -1},
        {"type": "ping", "extra": 1},
        {"type": "unknown"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_gateway_refuses(frame: dict[str, Any]) -> None:
    assert not validator(part("frames", "client")).is_valid(frame)
