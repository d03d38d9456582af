"""ntfy: one JSON message to a topic of a server, as https://docs.ntfy.sh/publish says."""

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from entobot.core.clock import Clock
from entobot.notifications.channel import Answer, Outcome, Parcel
from entobot.notifications.model import Channel, Place, Priority
from entobot.outgoing.guarded_http import AddressRefused, GuardedHttp, Unreachable, retry_after_s

PRIORITY = {Priority.LOW: 2, Priority.NORMAL: 3, Priority.HIGH: 4, Priority.CRITICAL: 5}
TAGS = {"approval": "raised_hand", "alert": "warning", "message": "speech_balloon"}


class NtfyOutlet:
    """See `Outlet`. `token_of` opens the access token of a place; empty where its topic needs none."""

    channel = Channel.NTFY
    service = ""
    is_repeatable = False

    def __init__(self, http: GuardedHttp, token_of: Callable[[Place], str], clock: Clock) -> None:
        self._http = http
        self._token_of = token_of
        self._clock = clock

    async def send(self, parcel: Parcel) -> Answer:
        server, topic = split_topic(parcel.place.address)
        headers = {"content-type": "application/json"}
        token = self._token_of(parcel.place)
        if token:
            headers["authorization"] = f"Bearer {token}"
        body = {
            "topic": topic,
            "title": parcel.title,
            "message": parcel.body or parcel.title,
            "priority": PRIORITY[parcel.priority],
            "click": parcel.url,
            "tags": [TAGS[parcel.kind]] if parcel.kind in TAGS else [],
        }
        try:
            reply = await self._http.post(server, json.dumps(body).encode(), headers)
        except AddressRefused as error:
            return Answer(Outcome.REFUSED, f"the ntfy server is refused: {error}")
        except Unreachable as error:
            return Answer(Outcome.LATER, f"the ntfy server: {error}")
        if 200 <= reply.status < 300:
            return Answer(Outcome.ACCEPTED)
        if reply.status == 429 or reply.status >= 500:
            wait_s = retry_after_s(reply.headers.get("retry-after", ""), self._clock.now_ms())
            return Answer(Outcome.LATER, f"the ntfy server answered {reply.status}", wait_s)
        return Answer(Outcome.REFUSED, f"the ntfy server answered {reply.status}")


def split_topic(address: str) -> tuple[str, str]:
    """The server's root and the topic, which is the last part of the path."""
    parts = urlsplit(address)
    path, _, topic = parts.path.rpartition("/")
    return f"{parts.scheme}://{parts.netloc}{path}/", topic
