"""What a device signs: pairing proofs, DPoP proofs (RFC 9449), approval decisions. See docs/protocol.md §2, §3, §7."""

from urllib.parse import parse_qs, urlsplit

from entobot.client.keys import DeviceKey
from entobot.core.secrets import Entropy, normalise_code, random_secret, sha256_b64u


def pairing_proof(
    key: DeviceKey, *, origin: str, secret: str, invite_id: str | None, now_ms: int, entropy: Entropy
) -> str:
    """Proof of key and secret. `invite_id` None means that `secret` is a typed code."""
    text = secret if invite_id is not None else normalise_code(secret)
    payload: dict[str, object] = {
        "aud": origin,
        "sth": sha256_b64u(text),
        "iat": now_ms // 1000,
        "jti": random_secret(entropy, 16),
    }
    if invite_id is not None:
        payload["invite_id"] = invite_id
    return key.sign_compact({"typ": "entobot-pair+jwt"}, payload)


def dpop_proof(
    key: DeviceKey,
    *,
    method: str,
    url: str,
    now_ms: int,
    entropy: Entropy,
    access_token: str | None = None,
    nonce: str | None = None,
) -> str:
    """`url` is origin and path; a query is cut off."""
    payload: dict[str, object] = {
        "htm": method,
        "htu": url.partition("?")[0],
        "iat": now_ms // 1000,
        "jti": random_secret(entropy, 16),
    }
    if access_token is not None:
        payload["ath"] = sha256_b64u(access_token)
    if nonce is not None:
        payload["nonce"] = nonce
    return key.sign_compact({"typ": "dpop+jwt", "jwk": key.jwk}, payload)


def decision_signature(
    key: DeviceKey,
    *,
    origin: str,
    approval_id: str,
    decision: str,
    action: str,
    now_ms: int,
    entropy: Entropy,
    edited_action: str | None = None,
    reason: str | None = None,
    rule: str | None = None,
    number: str | None = None,
) -> str:
    """`action`, `edited_action` and `rule` are the exact texts that are decided on."""
    payload: dict[str, object] = {
        "aud": origin,
        "approval_id": approval_id,
        "decision": decision,
        "action_sha256": sha256_b64u(action),
        "edited_sha256": None if edited_action is None else sha256_b64u(edited_action),
        "reason": reason,
        "iat": now_ms // 1000,
        "jti": random_secret(entropy, 16),
    }
    if number is not None:
        payload["number"] = number
    if rule is not None:
        payload["rule_sha256"] = sha256_b64u(rule)
    return key.sign_compact({"typ": "entobot-approval+jwt"}, payload)


def parse_pairing_url(url: str) -> dict[str, str]:
    """The fragment of an invite's URL as `v i s g x`. Raises ValueError when it is not one."""
    parts = urlsplit(url)
    fields = {name: values[0] for name, values in parse_qs(parts.fragment, strict_parsing=True).items()}
    if fields.get("v") != "1" or "i" not in fields or "s" not in fields:
        raise ValueError("not the link of an invite")
    return fields
