"""Voice of the running gateway: which transcriber the settings ask for, and why there is none."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from entobot.app.ground import Ground
from entobot.audit.service import Audit
from entobot.config_voice import VoiceSettings
from entobot.devices.service import Devices
from entobot.files.service import Files
from entobot.settings.model_url import check_resolved
from entobot.voice.service import Terms, Voice
from entobot.voice.transcriber import Transcriber
from entobot.voice.transcriber_command import CommandTranscriber
from entobot.voice.transcriber_http import HttpTranscriber

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
NO_BACKEND = "This gateway transcribes no recordings: voice.backend is 'none'."
NO_KEY = "This gateway transcribes no recordings: there is no key for the service in voice.url."
NO_FILES = "This gateway transcribes no recordings: it takes no files, since files.max_bytes is 0."


def make_voice(ground: Ground, audit: Audit, devices: Devices, files: Files, environment: Mapping[str, str]) -> Voice:
    settings = ground.settings.voice
    why = why_silent(settings, environment, ground.settings.files.max_bytes)
    return Voice(
        database=ground.database,
        clock=ground.clock,
        audit=audit,
        files=files,
        meters=ground.meters,
        transcriber=None if why else _transcriber(ground, settings, environment),
        terms=Terms(
            why=why,
            max_bytes=min(settings.max_bytes, ground.settings.files.max_bytes),
            max_length_s=settings.max_length.total_seconds(),
            keeps_audio=settings.keep_audio,
        ),
        guard=devices.guard,
    )


def why_silent(settings: VoiceSettings, environment: Mapping[str, str], max_file_bytes: int) -> str:
    """Why phones show no microphone, in a sentence; empty where they do."""
    if settings.backend == "none":
        return NO_BACKEND
    if not max_file_bytes:
        return NO_FILES
    is_openai = urlsplit(settings.url).hostname == OPENAI_HOST
    has_key = settings.api_key_file is not None or _key(settings, environment)
    return NO_KEY if settings.backend == "http" and is_openai and not has_key else ""


def _transcriber(ground: Ground, settings: VoiceSettings, environment: Mapping[str, str]) -> Transcriber:
    if settings.backend == "command":
        folder = ground.home.path / "recordings"
        return CommandTranscriber(settings.command, folder, environment, settings.timeout)
    fields = {"model": settings.model, "language": settings.language}
    return HttpTranscriber(
        settings.url,
        fields,
        lambda: _read_key(settings, environment),
        check_resolved,
        settings.timeout,
        ground.entropy,
    )


def _key(settings: VoiceSettings, environment: Mapping[str, str]) -> str:
    """OpenAI's own variable goes to OpenAI's own address and nowhere else."""
    own = settings.api_key.get_secret_value()
    is_openai = urlsplit(settings.url).hostname == OPENAI_HOST
    return own or (environment.get(OPENAI_KEY, "") if is_openai else "")


def _read_key(settings: VoiceSettings, environment: Mapping[str, str]) -> str:
    """Blocks. A file that cannot be read raises OSError."""
    if settings.api_key.get_secret_value() or settings.api_key_file is None:
        return _key(settings, environment)
    return settings.api_key_file.read_text("utf-8").strip()
