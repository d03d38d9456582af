"""REST of voice: whether there is any, and the text of a recording."""

from pydantic import BaseModel, ConfigDict, Field

from entobot.core.errors import Code
from entobot.voice.model import EXTENSIONS
from entobot.voice.service import Voice
from entobot.web.authentication import Caller
from entobot.web.routes import Api

AT = "/api/v1/voice"


class VoiceRow(BaseModel):
    available: bool
    why: str = Field(description="Why not; empty where it is.")
    max_bytes: int
    max_seconds: float
    keeps_audio: bool
    types: list[str]


class WantedTranscript(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file_id: str = Field(max_length=64, description="A whole file of this device that no message has.")


class TranscriptRow(BaseModel):
    text: str = Field(description="Empty where nothing was heard.")
    file_id: str | None = Field(description="The recording, where it is kept for the message.")


def add_routes(api: Api, voice: Voice) -> None:
    async def get_voice(caller: Caller) -> object:
        """Whether recordings can be transcribed here, and which."""
        del caller
        terms = voice.terms
        return {
            "available": not terms.why,
            "why": terms.why,
            "max_bytes": terms.max_bytes,
            "max_seconds": terms.max_length_s,
            "keeps_audio": terms.keeps_audio,
            "types": sorted(EXTENSIONS),
        }

    async def transcribe_recording(caller: Caller, wanted: WantedTranscript) -> object:
        """The text of a recording. Nothing is sent anywhere by it; the recording is deleted unless it is kept."""
        found = await voice.transcribe(caller, wanted.file_id)
        return {"text": found.text, "file_id": found.file_id}

    problems = (
        Code.FILE_NOT_WHOLE,
        Code.NOT_FOUND,
        Code.TOO_LARGE,
        Code.TRANSCRIPTION_FAILED,
        Code.TYPE_REFUSED,
        Code.VOICE_UNAVAILABLE,
    )
    api.add("GET", AT, get_voice, response_model=VoiceRow)
    api.add(
        "POST",
        f"{AT}/transcriptions",
        transcribe_recording,
        idempotent=False,
        response_model=TranscriptRow,
        problems=problems,
    )
