"""Web Push (RFC 8030), for browsers and for what speaks UnifiedPush, whose servers take the same requests."""

import json
from urllib.parse import urlsplit

from entobot.core.clock import Clock
from entobot.core.secrets import Entropy
from entobot.notifications.channel import Answer, Outcome, Parcel
from entobot.notifications.model import Channel, Priority
from entobot.notifications.webpush import MAX_PLAIN_BYTES, KeysRefused, VapidKey, encrypt
from entobot.outgoing.guarded_http import AddressRefused, GuardedHttp, Reply, Unreachable, retry_after_s

TOKEN_LIFE_S = 12 * 3600
"""Push services refuse more than 24 hours (RFC 8292 §2)."""
TOKEN_USED_S = 6 * 3600
MAX_SERVICES = 256
URGENCY = {Priority.LOW: "low", Priority.NORMAL: "normal", Priority.HIGH: "high", Priority.CRITICAL: "high"}
GONE = (404, 410)


class WebPushOutlet:
    """See `Outlet`. A repeat carries the same topic, so that a service replaces what it still holds, and the same tag,
    so that a device replaces what it shows.
    """

    service = ""
    is_repeatable = True

    def __init__(
        self, channel: Channel, http: GuardedHttp, key: VapidKey, contact: str, clock: Clock, entropy: Entropy
    ) -> None:
        """`contact` is a mailto: or https: address that push services may write to."""
        self.channel = channel
        self._http = http
        self._key = key
        self._contact = contact
        self._clock = clock
        self._entropy = entropy
        self._tokens: dict[str, tuple[int, str]] = {}

    async def send(self, parcel: Parcel) -> Answer:
        place = parcel.place
        try:
            body = encrypt(payload(parcel), place.p256dh, place.auth, self._entropy)
            return _answer(await self._http.post(place.address, body, self._headers(parcel)), self._clock.now_ms())
        except KeysRefused as error:
            return Answer(Outcome.GONE, f"the subscription cannot be used: {error}")
        except AddressRefused as error:
            return Answer(Outcome.REFUSED, f"the push service is refused: {error}")
        except Unreachable as error:
            return Answer(Outcome.LATER, f"the push service: {error}")

    def _headers(self, parcel: Parcel) -> dict[str, str]:
        parts = urlsplit(parcel.place.address)
        return {
            "authorization": self._authorization(f"{parts.scheme}://{parts.netloc}"),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(parcel.ttl_s),
            "topic": parcel.tag,
            "urgency": URGENCY[parcel.priority],
        }

    def _authorization(self, audience: str) -> str:
        """One signature for many messages to the same service."""
        now_s = self._clock.now_ms() // 1000
        made_s, header = self._tokens.get(audience, (0, ""))
        if header and 0 <= now_s - made_s < TOKEN_USED_S:
            return header
        header = self._key.authorization(audience, self._contact, now_s + TOKEN_LIFE_S)
        if len(self._tokens) >= MAX_SERVICES:
            self._tokens.clear()
        self._tokens[audience] = (now_s, header)
        return header


def payload(parcel: Parcel) -> bytes:
    """Declarative Web Push: a browser that knows it shows this even where the service worker fails; ours reads the
    same. The text is shortened until it fits.
    """
    body = parcel.body
    while True:
        text = json.dumps(
            {
                "web_push": 8030,
                "notification": {
                    "title": parcel.title,
                    "body": body,
                    "navigate": parcel.url,
                    "tag": parcel.tag,
                    "lang": "en",
                    "silent": False,
                },
                "app_badge": parcel.unread,
                "entobot": {
                    "notification_id": parcel.notification_id,
                    "kind": parcel.kind,
                    "priority": parcel.priority,
                    "path": parcel.path,
                    "gateway": parcel.gateway,
                },
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        if len(text) <= MAX_PLAIN_BYTES or not body:
            return text
        body = body[: len(body) * 3 // 4].rstrip("…") + "…" if len(body) > 1 else ""


def _answer(reply: Reply, now_ms: int) -> Answer:
    status = reply.status
    if 200 <= status < 300:
        return Answer(Outcome.ACCEPTED)
    if status in GONE:
        return Answer(Outcome.GONE, f"the push service says that the subscription is gone ({status})")
    if status == 413:
        return Answer(Outcome.REFUSED, "the push service says that it is too large (413)")
    if status == 429 or status >= 500:
        wait_s = retry_after_s(reply.headers.get("retry-after", ""), now_ms)
        return Answer(Outcome.LATER, f"the push service answered {status}", wait_s)
    if status in (401, 403):
        return Answer(Outcome.REFUSED, f"the push service does not accept this gateway's key ({status})")
    return Answer(Outcome.REFUSED, f"the push service answered {status}")
