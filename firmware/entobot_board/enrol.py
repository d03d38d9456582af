"""A board without a key of its own gets one for its enrolment key, once (docs/protocol.md §3.6)."""

import os

from .clock import Backoff
from .https import Refusal, ask
from .pin import base64url
from .settings import Wrong, read, write

POLL_MS = 200


def enrol(folder: str, settings, clock, *, open_link, is_online, feed, random_byte, log=print) -> None:
    """Waits until `settings` has a device and its key: from credentials.json, or from the gateway. Raises Wrong.

    Then the enrolment key goes from settings.json: whoever finds the board makes no further ones with it.

    The nonce is on flash before it is sent. So an answer that was lost, to the network or to a power cut, is asked for
    again as the same board, and no second device is made.
    """
    path = folder + "/credentials.json"
    try:
        known = read(path)
    except Wrong:
        known = {}
    if "key" not in known:
        if not settings.enrolment.get("key"):
            raise Wrong("settings.json: enrolment.key is missing, and credentials.json has no device: write a new one")
        if "nonce" not in known:
            known = {"nonce": base64url(os.urandom(32))}
            write(path, known)
        known = _ask(known["nonce"], settings, clock, Backoff(random_byte), open_link, is_online, feed, log)
        write(path, known)
        known = read(path)
    if settings.enrolment.get("key"):
        _forget_key(folder + "/settings.json", log)
    settings.device_id, settings.key = known["id"], known["key"]


def _forget_key(path: str, log) -> None:
    try:
        said = read(path)
        said["enrolment"]["key"] = ""  # earlier firmware, to which an update may go back, wants one to stand there
        write(path, said)
    except (OSError, Wrong) as error:
        log("the enrolment key stays in settings.json until the next start: " + str(error))


def _ask(nonce, settings, clock, backoff, open_link, is_online, feed, log) -> dict:
    said = {"nonce": nonce, "device_name": settings.enrolment.get("name", "")}
    bearer = "Authorization: Bearer " + settings.enrolment["key"] + "\r\n"
    next_try_ms = 0
    while True:
        feed()
        if clock.ms() < next_try_ms or not is_online():
            clock.sleep(POLL_MS)
            continue
        try:
            made = ask(open_link, clock, settings, "POST", "/api/v1/enrol", said, bearer)
            log("enrolled as " + made["device_id"])
            return {"id": made["device_id"], "key": made["api_key"]}
        except Refusal as refusal:
            is_over = refusal.status < 500 and refusal.status != 429
            pause_ms = backoff.longest_ms() if is_over else backoff.pause_ms()
            log("not enrolled: {}; again in {} s".format(refusal, pause_ms // 1000))
        except (OSError, KeyError) as error:  # also an answer that is none
            pause_ms = backoff.pause_ms()
            log("not enrolled: {}; again in {} s".format(error, pause_ms // 1000))
        next_try_ms = clock.ms() + pause_ms
