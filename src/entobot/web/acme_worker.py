"""Orders one certificate by ACME (RFC 8555) and ends: `python -m entobot.web.acme_worker`, run by `acme_order`.

A process of its own: the library takes 30 MB and waits in blocking calls, and an order is needed every few weeks. It
is told what to do in one line on standard input and says what it needs on standard output (`acme_words`).
"""

import sys
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import msgspec
import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.json_util import field
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from entobot.core.secrets import b64u
from entobot.home import create_private, read_private
from entobot.web.acme_words import Done, Failed, Issued, Job, Present, Said, Window, Withdraw

NONCE_TRIES = 8
"""A busy authority refuses some nonces; the library tries twice."""
PATIENCE_S = 120.0
"""For one name, and for the signature."""
MAX_WAIT_S = 86_400.0
"""However long an authority wants nothing of us: after a day it is asked again."""
MAX_HEADER_CHARACTERS = 64


@challenges.ChallengeResponse.register
class TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """RFC 8737; the library no longer has it."""

    response_cls = TlsAlpn01Response
    typ = "tls-alpn-01"

    def validation(self, account_key: JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


class ReplacingOrder(messages.NewOrder):
    """RFC 9773 §5: says which certificate the new one takes the place of."""

    replaces: str = field("replaces", omitempty=True)


class Refused(Exception):  # noqa: N818  what is told to the gateway
    def __init__(self, kind: str, detail: str = "", name: str = "") -> None:
        super().__init__(kind)
        self.failed = Failed(kind, detail, name)


class Network(client.ClientNetwork):
    """The library's, which tries nonces often enough, says what an order replaces, and remembers `Retry-After`."""

    replaces = ""
    retry_after_s: float | None = None

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        url, obj, *rest = args
        if self.replaces and isinstance(obj, messages.NewOrder):
            obj = ReplacingOrder(**{**dict(obj), "replaces": self.replaces})
        for left in reversed(range(NONCE_TRIES)):
            try:
                return self._post_once(url, obj, *rest, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce" or left == 0:
                    raise
        raise AssertionError

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = super()._send_request(method, url, *args, **kwargs)
        self.retry_after_s = seconds(response.headers.get("Retry-After"))
        return response


def seconds(retry_after: str | None) -> float | None:
    """RFC 9110 §10.2.3: seconds or a date, as far as it is sensible. None where nothing useful is said."""
    if retry_after is None or len(retry_after) > MAX_HEADER_CHARACTERS:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return min(float(retry_after), MAX_WAIT_S)
    try:
        at = parsedate_to_datetime(retry_after)
        left_s = (at - datetime.now(UTC)).total_seconds()  # noqa: TID251  a process of its own, which ends
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return None
    return min(max(0.0, left_s), MAX_WAIT_S)


def say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def heard() -> Done:
    line = sys.stdin.buffer.readline()
    if not line:
        raise SystemExit(1)  # the gateway has gone
    return msgspec.json.decode(line, type=Done)


def certificate_id(chain_pem: str) -> str:
    """RFC 9773 §4.1: key identifier of the issuer, serial number. Raises ExtensionNotFound."""
    leaf = x509.load_pem_x509_certificate(chain_pem.encode())
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    return f"{b64u(issuer)}.{b64u(serial)}"


class Ordering:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.key = JWKEC(key=_account_key(Path(job.account_key)))
        self.net = Network(
            self.key,
            alg=ES256,
            verify_ssl=job.authority or True,  # pyright: ignore[reportArgumentType]  handed on to requests, which takes a path
            user_agent=job.user_agent,
            timeout=int(job.timeout_s),
        )
        self.client = client.ClientV2(client.ClientV2.get_directory(job.directory, self.net), self.net)

    def window(self) -> Window:
        try:
            address: str = self.client.directory["renewalInfo"]
        except KeyError:
            return Window()
        response = self.net.get(f"{address.rstrip('/')}/{certificate_id(self.job.ask_about)}")
        wanted: Any = messages.RenewalInfo.from_json(response.json()).suggested_window
        return Window(_ms(wanted.start), _ms(wanted.end), self.net.retry_after_s)

    def order(self) -> Issued:
        self._sign_in()
        order: Any = self._new_order()
        for authorization in order.authorizations:
            if authorization.body.status != messages.STATUS_VALID:
                self._prove(authorization)
        deadline = datetime.fromtimestamp(time.time() + PATIENCE_S)  # noqa: DTZ006, TID251  the library compares with local time
        return Issued(self.client.finalize_order(order, deadline).fullchain_pem)

    def _sign_in(self) -> None:
        """The account of this key, made when there is none."""
        job, binding = self.job, None
        if job.eab_kid:
            binding = messages.ExternalAccountBinding.from_data(
                self.key.public_key(), job.eab_kid, job.eab_key, self.client.directory
            )
        elif self.client.external_account_required():
            raise Refused("externalAccountRequired")
        new = messages.NewRegistration.from_data(
            email=job.email or None, terms_of_service_agreed=True, external_account_binding=binding
        )
        try:
            self.client.new_account(new)
        except errors.ConflictError as known:
            self.net.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())

    def _new_order(self) -> messages.OrderResource:
        csr, profile = self.job.csr.encode(), self.job.profile or None
        if self.job.replaces and "renewalInfo" in self.client.directory.to_partial_json():
            self.net.replaces = certificate_id(self.job.replaces)
            try:
                return self.client.new_order(csr, profile)
            except (errors.ConflictError, messages.Error):  # replaced already, or not one of theirs
                self.net.replaces = ""
        return self.client.new_order(csr, profile)

    def _prove(self, authorization: Any) -> None:
        name: str = authorization.body.identifier.value
        if name.removeprefix("*.").lower() not in _names(self.job.csr):
            raise Refused("malformed", "It asks for the proof of a name that was not ordered.")
        offered: list[Any] = [one for one in authorization.body.challenges if one.chall.typ == self.job.challenge]
        if not offered:
            kinds = ", ".join(sorted(str(one.chall.typ) for one in authorization.body.challenges))
            raise Refused("challengeNotOffered", kinds, name)
        body = offered[0]
        value: str = body.chall.validation(self.key)
        try:
            say(Present(name, str(body.chall.encode("token")), value))
            if trouble := heard().trouble:
                raise Refused("notPresented", trouble, name)
            self.client.answer_challenge(body, body.response(self.key))
            self._wait_for(authorization, name)
        finally:
            say(Withdraw())
            heard()

    def _wait_for(self, authorization: Any, name: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            body: Any = self.client.poll(authorization)[0].body
            if body.status == messages.STATUS_VALID:
                return
            if body.status not in (messages.STATUS_PENDING, messages.STATUS_PROCESSING):
                found = [one.error for one in body.challenges if one.error is not None]
                raise Refused(*(_told(found[0]) if found else ("unauthorized", "")), name)
            if time.monotonic() > until:
                raise Refused("timeout", f"The authority did not check {name} in time.", name)
            time.sleep(min(max(self.net.retry_after_s or 1.0, 0.5), 10.0))


def _names(csr_pem: str) -> frozenset[str]:
    """What was ordered, without `*.`: a wildcard is proven by the name below it (RFC 8555 §7.1.3)."""
    names = x509.load_pem_x509_csr(csr_pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return frozenset(name.removeprefix("*.").lower() for name in names.value.get_values_for_type(x509.DNSName))


def _account_key(path: Path) -> ec.EllipticCurvePrivateKey:
    pem = read_private(path)
    if pem is None:
        key = ec.generate_private_key(ec.SECP256R1())
        create_private(
            path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        pem = read_private(path) or b""
    found = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise Refused("accountKey", f"{path} is no elliptic-curve key. Move it away; a new account is made.")
    return found


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _told(error: Any) -> tuple[str, str]:
    """Its kind, and the most exact text."""
    told = next((one for one in error.subproblems or () if one.detail), error)
    return str(told.typ).rpartition(":")[2], told.detail or told.title or ""


def failure(error: Exception, net: Network | None) -> Failed:
    if isinstance(error, Refused):
        return error.failed
    match error:
        case messages.Error():
            kind, detail = _told(error)
        case errors.IssuanceError():
            kind, detail = _told(error.error)
        case errors.TimeoutError():
            kind, detail = "timeout", "The authority did not sign in time."
        case errors.ClientError():
            kind, detail = "serverInternal", str(error)
        case requests.exceptions.SSLError():
            kind, detail = "untrusted", str(error)
        case requests.RequestException():
            kind, detail = "unreachable", str(error)
        case _:
            kind, detail = "unexpected", f"{type(error).__name__}: {error}"
    return Failed(kind, detail, retry_after_s=None if net is None else net.retry_after_s)


def main() -> int:
    ordering = None
    try:
        ordering = Ordering(msgspec.json.decode(sys.stdin.buffer.readline(), type=Job))
        say(ordering.window() if ordering.job.ask_about else ordering.order())
    except Exception as error:  # noqa: BLE001  whatever it is, the gateway tells it to the operator
        say(failure(error, None if ordering is None else ordering.net))
    return 0


if __name__ == "__main__":
    sys.exit(main())
