"""A signer of audit heads with a key of its own."""

import json

from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

TYP = "entobot-audit-head+jwt"


class TestSigner:
    __test__ = False

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256")
        self.signed = 0

    def sign_head(self, payload: bytes) -> str:
        self.signed += 1
        return joserfc_jws.serialize_compact({"alg": "ES256", "typ": TYP}, payload, self._key, algorithms=["ES256"])

    def verify_head(self, jws: str) -> bytes:
        try:
            found = joserfc_jws.deserialize_compact(jws, self._key, algorithms=["ES256"])
        except (JoseError, json.JSONDecodeError) as error:
            raise ValueError("not our signature") from error
        if found.protected.get("typ") != TYP:
            raise ValueError("another type")
        return found.payload
