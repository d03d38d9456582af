"""AWS Signature Version 4 of a form that is posted to `/`. Pure; tests compare it with botocore's."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime

FORM = "application/x-www-form-urlencoded; charset=utf-8"
ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKey:
    key_id: str
    secret: str = field(repr=False)
    region: str
    service: str


def signed_headers(key: AwsKey, *, host: str, body: bytes, now_ms: int) -> dict[str, str]:
    """The headers to send with `POST /` at `host` (with its port, unless that is the usual one)."""
    at = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": FORM, "host": host, "x-amz-date": at}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(("POST", "/", "", lines, names, hashlib.sha256(body).hexdigest()))
    scope = f"{at[:8]}/{key.region}/{key.service}/aws4_request"
    text = "\n".join((ALGORITHM, at, scope, hashlib.sha256(request.encode()).hexdigest()))
    signing = f"AWS4{key.secret}".encode()
    for part in (at[:8], key.region, key.service, "aws4_request"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    digest = hmac.digest(signing, text.encode(), "sha256").hex()
    credential = f"{ALGORITHM} Credential={key.key_id}/{scope}, SignedHeaders={names}, Signature={digest}"
    return headers | {"authorization": credential}
