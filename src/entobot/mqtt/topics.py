"""Topic names and filters (MQTT 5 §4.7, §4.8.2). Pure."""

import re

from entobot.mqtt.packets import Malformed, Reason

MAX_TOPIC_BYTES = 1024
MAX_LEVELS = 32
"""Of a name or filter. The specification allows 65,535 bytes; nobody's topics need them, and matching costs by level."""
SHARE = "$share/"
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


def check_name(topic: str) -> None:
    """Raises Malformed for what no message may be published to."""
    if "#" in topic or "+" in topic or not _is_sound(topic):
        raise Malformed(Reason.TOPIC_NAME_INVALID, "this is no topic name")


def check_filter(text: str) -> bool:
    """Whether the subscription is shared. Raises Malformed for what is no topic filter."""
    _, bare = split_share(text)
    levels = bare.split("/")
    is_bad = any(("#" in level or "+" in level) and len(level) > 1 for level in levels) or "#" in levels[:-1]
    if is_bad or not _is_sound(text) or not bare:
        raise Malformed(Reason.TOPIC_FILTER_INVALID, "this is no topic filter")
    return text.startswith(SHARE)


def _is_sound(text: str) -> bool:
    if not text or text.count("/") >= MAX_LEVELS or len(text.encode("utf-8")) > MAX_TOPIC_BYTES:
        return False
    return text.isprintable() or _CONTROLS.isdisjoint(text)


def split_share(text: str) -> tuple[str, str]:
    """The share's name, "" for a subscription that is not shared, and the filter. Raises Malformed."""
    if not text.startswith(SHARE):
        return "", text
    name, slash, bare = text[len(SHARE) :].partition("/")
    if not name or not slash or not bare or "#" in name or "+" in name:
        raise Malformed(Reason.TOPIC_FILTER_INVALID, "a shared subscription is $share/NAME/FILTER")
    return name, bare


def matches(text: str, topic: str) -> bool:
    """Whether a topic name falls under a filter (without `$share/…`)."""
    if text == topic:
        return True
    if topic.startswith("$") and text[:1] in ("#", "+"):
        return False
    levels, wanted = topic.split("/"), text.split("/")
    for position, one in enumerate(wanted):
        if one == "#":
            return True
        if position >= len(levels) or (one not in ("+", levels[position])):
            return False
    return len(levels) == len(wanted)


def like(topic_filter: str) -> str:
    """An SQL pattern, with `!` as its escape, that fits whatever the filter matches, and more."""
    plain = re.sub(r"[!%_]", r"!\g<0>", topic_filter)
    return re.sub(r"/?#$", "%", plain).replace("+", "%")


def scope_of(text: str) -> str:
    """Whose part of the tree a name or filter lies in: the device's id, or "" where it may reach anywhere."""
    first, _, rest = text.partition("/")
    device_id = rest.partition("/")[0]
    return device_id if first == "devices" and device_id not in ("", "+", "#") else ""
