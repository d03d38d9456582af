"""Topics that a credential is limited to, in bodies of requests and answers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from entobot.core.topic_limits import MAX_FILTER_CHARACTERS, MAX_FILTERS, TopicLimits, clean_limits

Filter = Annotated[str, Field(max_length=MAX_FILTER_CHARACTERS)]
_Filters = Annotated[list[Filter], Field(max_length=MAX_FILTERS)]


class TopicsBody(BaseModel):
    """Topic filters, each below `devices/ID/` unless it begins with `devices/`; always within what the device may."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish: _Filters | None = Field(default=None, description="null: whatever the device may; empty: nothing.")
    subscribe: _Filters | None = Field(default=None, description="null: whatever the device may; empty: nothing.")

    def limits(self) -> TopicLimits:
        """Raises `invalid`."""
        return clean_limits(self.publish, self.subscribe)


def topics_body(limits: TopicLimits) -> TopicsBody:
    return TopicsBody(
        publish=None if limits.publish is None else list(limits.publish),
        subscribe=None if limits.subscribe is None else list(limits.subscribe),
    )
