"""What an authority refuses, in words for the person who can put it right."""

from urllib.parse import urlsplit

from entobot.config import Settings
from entobot.core.clock import rfc3339
from entobot.web.acme_words import Failed

MAX_DETAIL_CHARACTERS = 400


def explain(failed: Failed, settings: Settings, now_ms: int) -> str:
    """What happened, with the authority's own words, and what to do."""
    name = failed.name or ", ".join(settings.acme_names)
    authority = urlsplit(settings.acme.directory).hostname or ""
    what = _WHAT.get(failed.kind, "{authority} refused the order ({kind}).").format(
        name=name, authority=authority, kind=failed.kind
    )
    fix = _reach(settings) if failed.kind in _NOT_REACHED else _FIX.get(failed.kind, _LATER)
    text = f"{what} {fix.format(name=name, authority=authority)}"
    if failed.retry_after_s:
        text += f" It wants no order before {rfc3339(now_ms + round(failed.retry_after_s * 1000))}."
    # It goes to terminals, logs and the dashboard: no character that steers them or reorders text.
    shown = "".join(character if character.isprintable() else " " for character in failed.detail)
    said = " ".join(shown.split())[:MAX_DETAIL_CHARACTERS]
    return f"{text} It said: {said}" if said else text


def _reach(settings: Settings) -> str:
    """Of a check that did not get through, or got to somebody else."""
    if settings.acme.challenge == "dns-01":
        return (
            "See that 'HOOK add' sets the TXT record at the servers that answer for the name, and waits until they do."
        )
    told, own = ("80", settings.plain_port) if settings.acme.challenge == "http-01" else ("443", settings.gateway.port)
    forwarded = "" if str(own) == told else f", and be forwarded to port {own} of this machine"
    return (
        f"The name must lead to this machine, and port {told} must be reachable from the whole Internet{forwarded}: look "
        "at the DNS records (AAAA too), the router and the firewall. Behind a network without that, use dns-01."
    )


_NOT_REACHED = frozenset({"connection", "incorrectResponse", "timeout", "tls", "unauthorized"})
_LATER = "It is tried again by itself."
_WHAT = {
    "accountDoesNotExist": "{authority} does not know the account any more.",
    "badNonce": "{authority} took none of many requests.",
    "caa": "DNS forbids {authority} to issue for {name}.",
    "challengeNotOffered": "{authority} does not let {name} be proven in this way.",
    "connection": "{authority} could not reach {name}.",
    "dns": "{authority} could not look {name} up in DNS.",
    "externalAccountRequired": "{authority} wants an external account.",
    "incorrectResponse": "Somebody else answered {authority} for {name}.",
    "invalidContact": "{authority} does not take this e-mail address.",
    "notPresented": "The proof for {name} could not be put in place.",
    "rateLimited": "{authority} has had too many orders.",
    "rejectedIdentifier": "{authority} issues nothing for {name}.",
    "serverInternal": "{authority} has trouble of its own.",
    "timeout": "{authority} was not done in time.",
    "tls": "{authority} could not make a TLS connection to {name}.",
    "unauthorized": "{authority} did not find the proof at {name}.",
    "unreachable": "{authority} cannot be reached.",
    "untrusted": "The certificate of {authority} is not trusted here.",
    "unsupportedContact": "{authority} does not take this e-mail address.",
    "userActionRequired": "{authority} wants its new terms to be agreed to.",
}
_FIX = {
    "accountDoesNotExist": "Move tls/acme-account.key in the data folder away; a new account is made.",
    "caa": "Add a CAA record for it, or take another authority.",
    "challengeNotOffered": "Choose another acme.challenge; names with a * need dns-01.",
    "dns": "Its A or AAAA record must be there and public. A new record can take hours to be seen.",
    "externalAccountRequired": "Set acme.eab_kid and acme.eab_key_file to what it gave you.",
    "invalidContact": "Correct acme.email, or leave it empty.",
    "notPresented": "Run the hook by hand to see why.",
    "rateLimited": "Wait; while you try things out, use its staging directory.",
    "rejectedIdentifier": "Use a public name that is yours.",
    "unreachable": "Look at this machine's connection and at acme.directory.",
    "untrusted": "For a private authority set acme.authority to its PEM file. Else look at this machine's clock.",
    "unsupportedContact": "Correct acme.email, or leave it empty.",
    "userActionRequired": "Open the page that it names, agree, then 'entobot cert renew'.",
}
