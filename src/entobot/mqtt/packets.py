"""MQTT control packets, 3.1.1 and 5, as values. Pure. Reasons are version 5's; the codec says them in 3.1.1's words."""

from enum import IntEnum

from msgspec import Struct


class Version(IntEnum):
    V3 = 4
    """3.1.1"""
    V5 = 5


class Reason(IntEnum):
    """Reason codes (MQTT 5 §2.4) that are used or understood here. From 0x80 on they are failures."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


FAILURE = 0x80


class Malformed(Exception):  # noqa: N818  the specification's word
    """Bytes that are no packet, or a packet that may not come. `reason` is what its sender is told (MQTT 5)."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Properties(Struct, frozen=True, omit_defaults=True):
    """Everything that a property may say (MQTT 5 §2.2.2). None, and empty: it was not there."""

    payload_format: int | None = None
    message_expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    session_expiry_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem: int | None = None
    will_delay_s: int | None = None
    request_response: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    max_packet_bytes: int | None = None
    wildcards_available: int | None = None
    subscription_ids_available: int | None = None
    shared_available: int | None = None


NOTHING = Properties()


class Will(Struct, frozen=True):
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NOTHING


class Connect(Struct, frozen=True):
    version: Version
    client_id: str
    clean: bool = True
    keep_alive_s: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NOTHING

    def __repr__(self) -> str:  # the password is a secret
        return f"Connect(version={int(self.version)}, client_id={self.client_id!r}, username={self.username!r})"


class ConnAck(Struct, frozen=True):
    reason: Reason
    session_present: bool = False
    properties: Properties = NOTHING


class Publish(Struct, frozen=True, gc=False):
    """`packet_id` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NOTHING


class PubAck(Struct, frozen=True, gc=False):
    packet_id: int
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


class PubRec(PubAck, frozen=True, gc=False):
    pass


class PubRel(PubAck, frozen=True, gc=False):
    pass


class PubComp(PubAck, frozen=True, gc=False):
    pass


class Subscription(Struct, frozen=True):
    """`filter` as it was sent, with `$share/…` where it is shared."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(Struct, frozen=True):
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NOTHING


class SubAck(Struct, frozen=True):
    packet_id: int
    reasons: tuple[Reason, ...]
    properties: Properties = NOTHING


class Unsubscribe(Struct, frozen=True):
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NOTHING


class UnsubAck(Struct, frozen=True):
    """3.1.1 says no reasons."""

    packet_id: int
    reasons: tuple[Reason, ...] = ()
    properties: Properties = NOTHING


class PingReq(Struct, frozen=True):
    pass


class PingResp(Struct, frozen=True):
    pass


class Disconnect(Struct, frozen=True):
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


class Auth(Struct, frozen=True):
    reason: Reason = Reason.SUCCESS
    properties: Properties = NOTHING


Packet = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
