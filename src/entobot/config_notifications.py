"""The settings of notifications: what may leave the gateway, how much, and through which servers."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from entobot.config_types import Duration, Section, Words
from entobot.core.networks import Networks


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    Networks(values)
    return values


class NotificationSettings(Section):
    content: bool = Field(
        default=False,
        description="Whether title and text may leave the gateway, where a person's own rules allow it too. "
        "Otherwise pushes and mails only say what kind of news there is.",
    )
    private_networks: Annotated[Words, AfterValidator(_networks)] = Field(
        default=(),
        description="Networks behind which push services may be reached although they are not public, as for a server "
        "of yours. Loopback in it allows plain `http://` there.",
    )
    per_sender_per_hour: int = Field(default=300, ge=1, description="Notifications of one device or session.")
    per_person_per_hour: int = Field(default=1000, ge=1, description="What one person is sent by all of them.")
    keep_for: Duration = Field(
        default=timedelta(days=30), ge=timedelta(days=1), description="How long notifications that ended are kept."
    )
