"""What a notification says, where its content may leave the gateway and where not. Pure."""

import hashlib
from urllib.parse import quote

from entobot.notifications.model import MAX_BODY_CHARACTERS, MAX_TITLE_CHARACTERS, Kind, Notification

_GENERAL = {
    Kind.ALERT: "The gateway warns of something",
    Kind.APPROVAL: "Approval needed",
    Kind.DIGEST: "News of the day",
    Kind.MESSAGE: "New message",
    Kind.QUESTION: "A question for you",
    Kind.REMINDER: "A reminder",
    Kind.TEST: "This is a test",
}
NEWS = "New notification"
_TAG_CHARACTERS = 32


def general(kind: str) -> str:
    """What may always be said."""
    return next((text for known, text in _GENERAL.items() if known == kind), NEWS)


def path_of(one: Notification) -> str:
    """The page of the phone app that shows it."""
    if one.link.startswith("/"):
        return one.link
    if one.conversation_id is not None and not one.link:
        return f"/chat/{quote(one.conversation_id)}"
    return f"/notifications/{one.notification_id}"


def tag_of(one: Notification) -> str:
    """The same for all that collapse; at most 32 characters of base64url, as RFC 8030 §5.4 wants a topic."""
    text = f"{one.user_id}\n{one.collapse_key or one.notification_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:_TAG_CHARACTERS]


def one_line(text: str) -> str:
    """A title of what may be anything."""
    return _cut(" ".join(_plain(text).split()), MAX_TITLE_CHARACTERS)


def paragraph(text: str) -> str:
    """A body of what may be anything."""
    return _cut("\n".join(_plain(line).rstrip() for line in text.split("\n")).strip(), MAX_BODY_CHARACTERS)


def digest_text(titles: list[str], more: int) -> tuple[str, str]:
    """Title and body."""
    count = len(titles) + more
    lines = [*titles, *([f"and {more} more"] if more else [])]
    return f"{count} notifications" if count != 1 else "1 notification", _cut("\n".join(lines), MAX_BODY_CHARACTERS)


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
