"""What a gateway and the process that orders for it say to one another: one JSON object a line."""

from typing import Literal

import msgspec

Challenge = Literal["dns-01", "http-01", "tls-alpn-01"]


class Job(msgspec.Struct, frozen=True):
    """The one line with which it begins. An order without `ask_about`; else the question when to renew that chain.

    `account_key` is the path of a PEM file, made when it is not there. `replaces` is the chain that the new one is for.
    """

    directory: str
    account_key: str
    user_agent: str
    challenge: Challenge = "http-01"
    csr: str = ""
    email: str = ""
    profile: str = ""
    authority: str | None = None
    eab_kid: str = ""
    eab_key: str = ""
    replaces: str = ""
    ask_about: str = ""
    timeout_s: float = 30.0


class Present(msgspec.Struct, frozen=True, tag="present"):
    """Show `value` for `name`: http-01 at the token's path, tls-alpn-01 as a digest, dns-01 in a TXT record.

    Answered by `Done` once it can be seen.
    """

    name: str
    token: str
    value: str


class Withdraw(msgspec.Struct, frozen=True, tag="withdraw"):
    """What was presented last is not needed any more. Answered by `Done`."""


class Issued(msgspec.Struct, frozen=True, tag="issued"):
    """PEM, leaf first. The end."""

    chain: str


class Window(msgspec.Struct, frozen=True, tag="window"):
    """When the authority wants the renewal (RFC 9773); no times: it has no wish. The end."""

    start_ms: int | None = None
    end_ms: int | None = None
    ask_again_s: float | None = None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """`kind` is an error of RFC 8555 §6.7, or one of ours. The end."""

    kind: str
    detail: str = ""
    name: str = ""
    retry_after_s: float | None = None


class Done(msgspec.Struct, frozen=True):
    """The gateway's answer; `trouble` says why it could not."""

    trouble: str = ""


Said = Present | Withdraw | Issued | Window | Failed
