"""The page of the REST interface, from the OpenAPI document and the table of access."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tools.tables import code, page, table

from entobot.core.errors import Code

_GROUPS = {
    "api-keys": "Devices and credentials",
    "auth": "Devices and credentials",
    "commands": "Conversations, commands, events",
    "conversations": "Conversations, commands, events",
    "devices": "Devices and credentials",
    "events": "Conversations, commands, events",
    "me": "Sign-in and one's own account",
    "pairing": "Pairing",
    "sessions": "Sign-in and one's own account",
    "sign-in": "Sign-in and one's own account",
    "sign-out": "Sign-in and one's own account",
    "users": "People",
}
"""The part of the path behind `/api/v1/`; what is not here makes a group of its own name."""
_OUTSIDE = "State of the gateway"
"""The group of what does not stand below `/api/v1/`."""
_COMMON = frozenset({"draining", "internal", "invalid", "rate_limited"})
_WITH_CREDENTIALS = frozenset({"device_suspended", "proof_invalid", "proof_required", "proof_stale", "unauthenticated"})
_DEFINITIONS = "#/components/schemas/"


def rest_page(document: dict[str, Any], who: Callable[[str], str], fresh: frozenset[str]) -> str:
    """`who` says who may call `METHOD /path`; `fresh` are those that want a fresh sign-in of a browser."""
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            groups.setdefault(_group(path), []).append(_route(route, operation, who(route), route in fresh))
    parts = [f"## {title}\n\n" + "\n".join(routes) for title, routes in sorted(groups.items(), key=_order)]
    shapes = document["components"]["schemas"]
    parts.append("## Shapes\n\nTwo shapes of one name belong to different features.\n")
    parts += [_shape(name, shapes[name]) for name in sorted(shapes, key=_title)]
    return page(
        "REST",
        "Every route under `/api` and `/metrics`, from [openapi.json](../schema/v1/openapi.json). How a request is "
        "authenticated and repeated: [protocol](../protocol.md#4-rest). Who may call what in one table: "
        "[access](access.md). Instants are RFC 3339; bodies are JSON; unknown members are refused.\n\n"
        f"Every route may answer {_codes(_COMMON)}, and every one that needs credentials {_codes(_WITH_CREDENTIALS)}. "
        "*Problems* names the others. *Fresh sign-in*: a browser that signed in more than five minutes ago is "
        f"answered {_codes({'step_up_required'})}.",
        *parts,
    )


def _group(path: str) -> str:
    if not path.startswith("/api/v1/"):
        return _OUTSIDE
    part = path.split("/")[3]
    if path.startswith("/api/v1/auth/pair"):
        part = "pairing"
    return _GROUPS.get(part, part.capitalize())


def _order(group: tuple[str, list[str]]) -> tuple[bool, str]:
    return group[0] == _OUTSIDE, group[0]


def _route(route: str, operation: dict[str, Any], who: str, is_fresh: bool) -> str:  # noqa: FBT001  a cell of the table
    parts = [f"### `{route}`\n", f"{_sentence(operation['summary'])} For {who}{'; fresh sign-in' * is_fresh}.\n"]
    parameters = operation.get("parameters", ())
    if asked := [_parameter(one) for one in parameters if one["in"] == "query"]:
        parts.append(table(("parameter", "type", "meaning"), asked))
    if any(one["name"] == "Idempotency-Key" for one in parameters):
        parts.append("Takes `Idempotency-Key`.\n")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        parts.append(_body(body))
    parts.append(_answers(operation["responses"]))
    return "\n".join(parts)


def _sentence(summary: str) -> str:
    words = summary.split(" ")
    is_name = all(word[:1].isupper() for word in words)
    text = " ".join([words[0], *(word.lower() for word in words[1:])]) if is_name else summary
    return text if text.endswith(".") else text + "."


def _parameter(one: dict[str, Any]) -> list[str]:
    name = code(one["name"]) + (" (required)" if one.get("required") else "")
    return [name, _type(one["schema"]), one.get("description", "")]


def _body(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"Body: {_type(schema)}.\n"
    return "Body:\n\n" + _members(schema)


def _answers(responses: dict[str, Any]) -> str:
    good: list[str] = []
    problems: set[str] = set()
    for status, one in responses.items():
        if status < "400":
            good.append(_good(status, one))
        else:
            problems |= set(one["description"].replace("`", "").split(", ")) & set(Code)
    lines = [f"Answers {'; '.join(good)}."]
    special = problems - _COMMON - _WITH_CREDENTIALS
    if special:
        lines.append(f"Problems: {_codes(special)}.")
    return " ".join(lines) + "\n"


def _good(status: str, one: dict[str, Any]) -> str:
    bodies = [
        _type(content["schema"]) if "$ref" in content.get("schema", {}) else code(kind)
        for kind, content in one.get("content", {}).items()
    ]
    return f"{status} {' or '.join(bodies)}" if bodies else f"{status} without a body"


def _codes(names: frozenset[str] | set[str]) -> str:
    return ", ".join(f"[`{name}`](../how-to/troubleshoot.md#{name})" for name in sorted(names))


def _shape(name: str, schema: dict[str, Any]) -> str:
    said = schema.get("description")
    lead = [f"### {_title(name)}\n", *([said + "\n"] if said else [])]
    members = _members(schema) if schema.get("properties") else f"{_type(schema)[:1].upper()}{_type(schema)[1:]}.\n"
    return "\n".join([*lead, members])


def _title(name: str) -> str:
    """Shapes of one name are told apart by their feature, as FastAPI writes it: `entobot__pairing__model__Kind`."""
    parts = name.split("__")
    return parts[0] if len(parts) == 1 else f"{parts[-1]} of {parts[1]}"


def _members(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        [code(name), _type(member), "yes" if name in required else "no", member.get("description", "")]
        for name, member in schema.get("properties", {}).items()
    ]
    return table(("member", "type", "always", "meaning"), rows)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        title = _title(schema["$ref"].removeprefix(_DEFINITIONS))
        return f"[{title}](#{title.lower().replace(' ', '-')})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(code(one) for one in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return kind + "".join(_bounds(schema)) + _default(schema)


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    if "minimum" in schema:
        yield f", from {schema['minimum']}"
    if "maximum" in schema:
        yield f", to {schema['maximum']}"
    if "maxLength" in schema:
        yield f", at most {schema['maxLength']} characters"


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None or value == "" else f", default {code(json.dumps(value))}"
