"""The settings of things: how long is kept what boards tell, and when one counts as gone."""

from datetime import timedelta

from pydantic import Field, model_validator

from entobot.config_types import Duration, Section


class ThingSettings(Section):
    keep_readings: Duration = Field(
        default=timedelta(days=7),
        ge=timedelta(hours=2),
        le=timedelta(days=365),
        description="How long each reading is kept. Later there is one row of least, mean and greatest for each hour.",
    )
    keep_hours: Duration = Field(
        default=timedelta(days=730), ge=timedelta(hours=2), description="How long those rows of each hour are kept."
    )
    keep_commands: Duration = Field(
        default=timedelta(days=30), ge=timedelta(hours=1), description="How long commands that are over are kept."
    )
    keep_firings: Duration = Field(
        default=timedelta(days=30), ge=timedelta(hours=1), description="How long the history of automations is kept."
    )
    stale_after: Duration = Field(
        default=timedelta(minutes=15),
        ge=timedelta(seconds=10),
        description="A thing of which nothing was heard for so long is stale, unless it or its type says how often it speaks.",
    )
    offline_after: Duration = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=20),
        description="A thing of which nothing was heard for so long is offline, or for three times as long as makes it stale.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "ThingSettings":
        if self.keep_hours < self.keep_readings:
            raise ValueError("keep_hours is shorter than keep_readings.")
        if self.offline_after < self.stale_after:
            raise ValueError("offline_after is shorter than stale_after.")
        return self
