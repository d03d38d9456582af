"""REST of notifications: translate only."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from entobot.core.clock import rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.core.ids import Prefix, is_id
from entobot.core.permissions import Role
from entobot.notifications.model import (
    MAX_BODY_CHARACTERS,
    MAX_KEY_CHARACTERS,
    MAX_LINK_CHARACTERS,
    Attempt,
    AttemptState,
    Channel,
    Escalation,
    Kind,
    Note,
    Priority,
    State,
)
from entobot.notifications.service import MAX_PAGE, Notifications, Recipients, Told
from entobot.notifications.wording import general, path_of
from entobot.web.authentication import Caller
from entobot.web.routes import Api

Moment = Annotated[AwareDatetime, Field(description="RFC 3339, with its time zone.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttemptRow(_Body):
    """One way that was tried."""

    channel: Channel
    place_id: str = Field(description="Empty for live connections.")
    state: AttemptState
    reason: str = Field(description="Why it failed, or failed last; empty where it did not.")
    tries: int
    made_at: str
    due_at: str | None = Field(description="When a queued one is tried next.")
    sent_at: str | None
    ended_at: str | None


class NotificationRow(_Body):
    """Of another person's, title and body are general words."""

    notification_id: str
    user_id: str
    kind: str
    priority: Priority
    title: str
    body: str
    link: str = Field(description="What it leads to: a path of the phone app, or an https URL of the sender's.")
    path: str = Field(description="The page of the phone app that shows it.")
    conversation_id: str | None
    collapse_key: str
    sender: str = Field(description="A device id, a session id, `local`, or empty for the gateway itself.")
    state: State
    created_at: str
    expires_at: str | None
    ended_at: str | None
    escalated_from: str | None = Field(description="The one that nobody settled in time.")
    folded_into: str | None = Field(description="The digest that told of it.")
    attempts: list[AttemptRow]


class NotificationPage(_Body):
    rows: list[NotificationRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")
    unread: int = Field(description="The caller's own that are open, on all pages.")


class EscalationBody(_Body):
    """One of `user_id` and `role` is told at `at` if nobody has settled or read it by then. Needs `notify.others`."""

    at: Moment
    user_id: str | None = Field(default=None, max_length=64)
    role: Role | None = None


class NewNotification(_Body):
    """To oneself without `user_id` and `role`; to others needs the scope `notify.others`."""

    title: str = Field(max_length=512)
    body: str = Field(default="", max_length=4 * MAX_BODY_CHARACTERS)
    kind: str = Field(default=Kind.NOTICE, max_length=32, description="`notice`, or a word of yours: a-z, 0-9, _ . -")
    priority: Priority = Priority.NORMAL
    link: str = Field(default="", max_length=MAX_LINK_CHARACTERS, description="A path of this gateway, or https://…")
    conversation_id: str | None = Field(default=None, max_length=64)
    collapse_key: str = Field(
        default="",
        max_length=MAX_KEY_CHARACTERS,
        description="A later one with the same key takes the earlier's place.",
    )
    expires_at: Moment | None = None
    user_id: str | None = Field(default=None, max_length=64)
    role: Role | None = None
    escalation: EscalationBody | None = None


class Posted(_Body):
    notification_ids: list[str]


class MarkedRead(_Body):
    """How many were not read before."""

    read: int


def add_routes(api: Api, notifications: Notifications) -> None:
    routes, at = _Routes(notifications), "/api/v1/notifications"
    api.add("GET", at, routes.list_notifications, problems=[Code.INVALID])
    api.add("POST", at, routes.post_notification, status_code=201, problems=[Code.NOT_FOUND, Code.RATE_LIMITED])
    api.add("POST", f"{at}/read", routes.read_all_notifications)
    api.add("GET", f"{at}/{{notification_id}}", routes.get_notification, problems=[Code.NOT_FOUND])
    api.add("POST", f"{at}/{{notification_id}}/read", routes.read_notification, problems=[Code.NOT_FOUND])


class _Routes:
    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    async def list_notifications(
        self,
        principal: Caller,
        state: Annotated[State | None, Query(description="`open`: those that are not read.")] = None,
        of: Annotated[str, Query(pattern="^(me|all)$", description="`all` needs `audit`.")] = "me",
        kind: Annotated[str | None, Query(max_length=32, description="One's own of this kind only.")] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> NotificationPage:
        if state not in (None, State.OPEN):
            raise Problem(Code.INVALID, "state is 'open', or left out.")
        page = await self._notifications.find_page(
            principal, cursor, limit, only_unread=state is State.OPEN, of_all=of == "all", kind=kind
        )
        return NotificationPage(rows=[_row(one) for one in page.rows], next=page.next, unread=page.unread)

    async def get_notification(self, notification_id: str, principal: Caller) -> NotificationRow:
        return _row(await self._notifications.find(principal, notification_id))

    async def post_notification(self, body: NewNotification, principal: Caller) -> Posted:
        """Tell a person, or everybody of a role. It is on its way when this answers."""
        if body.user_id is not None and body.role is not None:
            raise Problem(Code.INVALID, "Name a person or a role, not both.")
        if body.conversation_id is not None and not is_id(body.conversation_id, Prefix.CONVERSATION):
            raise Problem(Code.INVALID, "conversation_id is no id of a conversation.")
        note = Note(
            user_id="",
            kind=body.kind,
            title=body.title,
            body=body.body,
            priority=body.priority,
            link=body.link,
            conversation_id=body.conversation_id,
            collapse_key=body.collapse_key,
            expires_at_ms=None if body.expires_at is None else _ms(body.expires_at),
            escalation=None if body.escalation is None else _escalation(body.escalation),
        )
        made = await self._notifications.send(principal, note, Recipients(body.user_id, body.role))
        return Posted(notification_ids=[one.notification_id for one in made])

    async def read_notification(self, notification_id: str, principal: Caller) -> MarkedRead:
        return MarkedRead(read=await self._notifications.mark_read(principal, notification_id))

    async def read_all_notifications(self, principal: Caller) -> MarkedRead:
        return MarkedRead(read=await self._notifications.mark_read(principal, None))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _escalation(body: EscalationBody) -> Escalation:
    if (body.user_id is None) == (body.role is None):
        raise Problem(Code.INVALID, "An escalation names a person or a role.")
    return Escalation(_ms(body.at), body.user_id, body.role)


def _row(told: Told) -> NotificationRow:
    one = told.notification
    return NotificationRow(
        notification_id=one.notification_id,
        user_id=one.user_id,
        kind=one.kind,
        priority=one.priority,
        title=one.title if told.is_own else general(one.kind),
        body=one.body if told.is_own else "",
        link=one.link if told.is_own else "",
        path=path_of(one) if told.is_own else "",
        conversation_id=one.conversation_id if told.is_own else None,
        collapse_key=one.collapse_key if told.is_own else "",
        sender=one.sender,
        state=one.state,
        created_at=rfc3339(one.created_at_ms),
        expires_at=rfc3339_or_none(one.expires_at_ms),
        ended_at=rfc3339_or_none(one.ended_at_ms),
        escalated_from=one.escalated_from,
        folded_into=one.folded_into,
        attempts=[_attempt(attempt) for attempt in told.attempts],
    )


def _attempt(one: Attempt) -> AttemptRow:
    return AttemptRow(
        channel=one.channel,
        place_id=one.place_id,
        state=one.state,
        reason=one.reason,
        tries=one.tries,
        made_at=rfc3339(one.made_at_ms),
        due_at=rfc3339(one.due_at_ms) if one.state is AttemptState.QUEUED else None,
        sent_at=rfc3339_or_none(one.sent_at_ms),
        ended_at=rfc3339_or_none(one.ended_at_ms),
    )
