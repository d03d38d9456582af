"""Runner adapter on pydantic-ai (extra `agent`).

It uses the library's one-request interface: tools are declared as external, a turn is one streamed request, and
nothing in here can execute anything. The message history is the state: JSON text that outlives a restart.
Everything of the library is imported when the runner is built, in a thread (`runner_loading.py`).
"""

import contextlib
import importlib
import json
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from entobot.agents.choice import Endpoint
from entobot.agents.discovery import served_model
from entobot.agents.runner import (
    Line,
    RunErrorCode,
    RunFailed,
    Speaker,
    TextDelta,
    ToolCallDelta,
    ToolOffer,
    ToolRequest,
    TurnEnd,
    TurnEvent,
    TurnRequest,
)
from entobot.config import AgentSettings
from entobot.core.imports import without
from entobot.telemetry.log import get_logger

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent, ToolCallPart
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

log = get_logger("agents")

INSTRUCTIONS = """\
You answer people who write to you from their phones. Be brief and concrete.
Your tools work in a folder of this machine, the workspace. Some ask a person first; when a call was refused or its \
time ran out, say so and do not repeat it unless you are asked to. Never claim that something was done when its tool \
did not report success."""
PROVIDER_NAMES = {"gemini": "google"}
"""Where the library calls a vendor something else than the settings do."""


class LlmRunner:
    """See `Runner`."""

    def __init__(
        self,
        model: "Model",
        *,
        instructions: str,
        settings: "ModelSettings",
        name: str,
        close_client: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`close_client` closes an HTTP client that was made for this runner and that the library leaves to us."""
        self.name = name
        self._close_client = close_client
        self._model = model
        self._instructions = instructions
        self._settings = settings
        self._entered = contextlib.AsyncExitStack()
        self._is_entered = False

    async def turn(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        from pydantic_ai.direct import model_request_stream

        names = {_safe_name(offer.name): offer.name for offer in request.tools}
        if not self._is_entered:  # the vendor's HTTP client belongs to the loop that the turns run on
            self._is_entered = True
            await self._entered.enter_async_context(self._model)
        messages = self._messages(request)
        with _own_words(self.name):
            async with model_request_stream(
                self._model,
                messages,
                model_settings=self._settings,
                model_request_parameters=_parameters(request.tools),
            ) as stream:
                calls: dict[int, str] = {}
                async for event in stream:
                    delta = _delta(event, calls, names)
                    if delta is not None:
                        yield delta
                response = stream.get()
            end = _end(messages, response, names)
        yield end

    async def close(self) -> None:
        await self._entered.aclose()
        if self._close_client is not None:
            await self._close_client()

    def _messages(self, request: TurnRequest) -> "list[ModelMessage]":
        from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ToolReturnPart

        if request.state is None:
            return _history(request.transcript, self._instructions)
        messages = ModelMessagesTypeAdapter.validate_json(request.state)
        parts = [
            ToolReturnPart(
                tool_name=_safe_name(outcome.name),
                content=outcome.told(),
                tool_call_id=outcome.tool_call_id,
                outcome="failed" if outcome.is_error else "success",
            )
            for outcome in request.tool_results
        ]
        messages.append(ModelRequest(parts=parts, instructions=self._instructions))
        return messages


def _history(transcript: Sequence[Line], instructions: str) -> "list[ModelMessage]":
    from pydantic_ai.messages import BinaryContent, ModelRequest, ModelResponse, TextPart, UserPromptPart

    messages: list[ModelMessage] = []
    for line in transcript:
        if line.speaker is Speaker.USER:
            pictures = [
                BinaryContent(data=file.data, media_type=file.media_type)
                for file in line.files
                if file.is_picture and file.data is not None
            ]
            content = [line.told(), *pictures] if pictures else line.told()
            messages.append(ModelRequest(parts=[UserPromptPart(content=content)], instructions=instructions))
        else:
            messages.append(ModelResponse(parts=[TextPart(content=line.told())]))
    return messages


def _parameters(offers: Sequence[ToolOffer]) -> "ModelRequestParameters":
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=_safe_name(offer.name),
                description=offer.description,
                parameters_json_schema=dict(offer.schema),
                kind="external",
            )
            for offer in offers
        ]
    )


def _delta(event: "ModelResponseStreamEvent", calls: dict[int, str], names: dict[str, str]) -> TurnEvent | None:
    """What a stream event means to us; thinking and the library's own bookkeeping mean nothing."""
    from pydantic_ai import messages as m

    if isinstance(event, m.PartStartEvent):
        part = event.part
        if isinstance(part, m.TextPart):
            return TextDelta(part.content) if part.content else None
        if isinstance(part, m.ToolCallPart):
            calls[event.index] = part.tool_call_id
            return ToolCallDelta(part.tool_call_id, _our_name(part.tool_name, names), _fragment(part.args))
    if isinstance(event, m.PartDeltaEvent):
        delta = event.delta
        if isinstance(delta, m.TextPartDelta):
            return TextDelta(delta.content_delta) if delta.content_delta else None
        if isinstance(delta, m.ToolCallPartDelta) and event.index in calls:
            return ToolCallDelta(calls[event.index], "", _fragment(delta.args_delta))
    return None


def _fragment(args: object) -> str:
    """Some vendors send whole objects: those are shown at the end of the turn, as one text."""
    return args if isinstance(args, str) else ""


def _end(messages: "list[ModelMessage]", response: "ModelResponse", names: dict[str, str]) -> TurnEnd:
    from pydantic_ai.messages import ModelMessagesTypeAdapter, TextPart, ToolCallPart

    if response.finish_reason is None:
        raise RunFailed(RunErrorCode.PROVIDER_ERROR, "The model's answer broke off.")
    if response.finish_reason == "content_filter":
        raise RunFailed(RunErrorCode.PROVIDER_REJECTED, "The model's provider withheld the answer.")
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    calls = tuple(
        ToolRequest(part.tool_call_id, _our_name(part.tool_name, names), _args_text(part))
        for part in response.parts
        if isinstance(part, ToolCallPart)
    )
    if response.finish_reason == "length" and calls:
        raise RunFailed(RunErrorCode.PROVIDER_ERROR, "The model ran out of tokens in the middle of a tool call.")
    state = ModelMessagesTypeAdapter.dump_json([*messages, response]).decode("utf-8")
    return TurnEnd(text, calls, state)


def _args_text(part: "ToolCallPart") -> str:
    """As the model wrote them. The library's own rendering would quietly resolve a member that is named twice."""
    if isinstance(part.args, str):
        return part.args or "{}"
    return json.dumps(part.args or {}, ensure_ascii=False)


# -- names: vendors allow letters, digits, `_` and `-` only


def _safe_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]


def _our_name(safe_name: str, names: dict[str, str]) -> str:
    return names.get(safe_name, safe_name)


# -- failures, in our own words


@contextlib.contextmanager
def _own_words(name: str):  # noqa: ANN202  a context manager
    """Turn whatever the library and the vendor's client raise into RunFailed; the original's text goes nowhere."""
    try:
        yield
    except RunFailed:
        raise
    except Exception as error:  # noqa: BLE001  vendors' clients raise whatever they like, and none of it is ours to show
        failure = explain(error)
        log.warning("agent.model_failed", model=name, code=str(failure.code), error=type(error).__name__)
        raise failure from None


def explain(error: Exception) -> RunFailed:
    """Our code and sentence for an exception of a model call."""
    import httpx
    from pydantic_ai import exceptions as e

    if _is_about_tls(error):
        text = "The certificate of the model's provider does not hold. Check its address, or trust its authority."
        return RunFailed(RunErrorCode.PROVIDER_UNREACHABLE, text)
    status = error.status_code if isinstance(error, e.ModelHTTPError) else None
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], RunErrorCode, str], ...] = (
        (
            e.ModelAuthenticationError,
            RunErrorCode.PROVIDER_UNAUTHORIZED,
            "The model's provider refused the key. Whoever runs this gateway must set a valid one.",
        ),
        (
            e.ModelNotFoundError,
            RunErrorCode.PROVIDER_REJECTED,
            "The model's provider does not know this model or address. Check agent.model and agent.base_url.",
        ),
        (
            e.ModelContextWindowExceededError,
            RunErrorCode.PROVIDER_REJECTED,
            "The conversation is longer than this model can read. Begin a new one.",
        ),
        (
            e.ModelQuotaExceededError,
            RunErrorCode.PROVIDER_OUT_OF_CREDIT,
            "The account at the model's provider has no credit left.",
        ),
        (
            e.ModelRateLimitError,
            RunErrorCode.PROVIDER_RATE_LIMITED,
            "The model's provider is receiving too many requests. Try again later.",
        ),
        (e.ModelRequestRejectedError, RunErrorCode.PROVIDER_REJECTED, "The model's provider refused the request."),
        (
            (e.ModelTimeoutError, e.ModelRequestTimeout, TimeoutError, httpx.TimeoutException),
            RunErrorCode.PROVIDER_TIMEOUT,
            "The model did not answer in time.",
        ),
        (
            (e.ModelConnectionError, httpx.TransportError, ConnectionError),
            RunErrorCode.PROVIDER_UNREACHABLE,
            "The model's provider could not be reached, or the connection broke.",
        ),
    )
    for kind, code, text in kinds:
        if isinstance(error, kind):
            return RunFailed(code, text)
    suffix = "" if status is None else f" (HTTP {status})"
    return RunFailed(RunErrorCode.PROVIDER_ERROR, f"The model's provider gave no usable answer{suffix}.")


def _is_about_tls(error: BaseException) -> bool:
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, ssl.SSLError):
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return False


# -- building


LOADING = threading.Lock()
"""The library's modules import one another in a circle: two threads at once find them half loaded."""


def build_llm(endpoint: Endpoint, settings: AgentSettings, *, max_retries: int = 2) -> LlmRunner:
    """Import the library and make the runner. Takes about a second and blocks: call it in a thread.

    Raises RunFailed when a server that was to be asked for its model does not answer.
    """
    if endpoint.base_url is not None and not endpoint.model:
        endpoint = replace(endpoint, model=served_model(endpoint.base_url, endpoint.api_key))
    # Its HTTP clients draw with these two, for a command line that nobody calls here.
    with LOADING, without("pygments", "rich"):
        return _build(endpoint, settings, max_retries)


def _build(endpoint: Endpoint, settings: AgentSettings, max_retries: int) -> LlmRunner:
    from pydantic_ai.settings import ModelSettings

    _leave_prices_out()

    importlib.import_module("pydantic_ai.direct")  # here, so that the first turn does not import it on the event loop
    # A number of seconds, as every vendor's client takes it; the client's own shorter limit for connecting stays.
    model_settings = ModelSettings(timeout=settings.run_timeout.total_seconds(), max_retries=max_retries)
    if settings.temperature is not None:
        model_settings["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        model_settings["max_tokens"] = settings.max_tokens
    model, name, close_client = _build_model(endpoint)
    added = settings.instructions.strip()
    instructions = f"{INSTRUCTIONS}\n\n{added}" if added else INSTRUCTIONS
    return LlmRunner(model, instructions=instructions, settings=model_settings, name=name, close_client=close_client)


def _leave_prices_out() -> None:
    """The library knows what every vendor's every model costs: 5 MB, and we ask for no price."""
    with contextlib.suppress(ImportError):
        from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

        set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=False))


def _build_model(endpoint: Endpoint) -> "tuple[Model, str, Callable[[], Awaitable[None]] | None]":
    if endpoint.base_url is not None:
        from openai import DefaultAsyncHttpxClient
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.profiles.openai import OpenAIModelProfile
        from pydantic_ai.providers.openai import OpenAIProvider

        name = endpoint.model
        # A server that sends the request elsewhere would send the key along: nothing is followed.
        http_client = DefaultAsyncHttpxClient(follow_redirects=False)
        provider = OpenAIProvider(
            base_url=endpoint.base_url, api_key=endpoint.api_key or "none", http_client=http_client
        )
        # By default a stream that was cut would pass for a finished answer.
        profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
        return OpenAIChatModel(name, provider=provider, profile=profile), name, http_client.aclose
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import Provider, infer_provider_class

    def provider_with_key(vendor: str) -> "Provider[object]":
        return infer_provider_class(vendor)(api_key=endpoint.api_key)  # pyright: ignore[reportCallIssue]  every vendor we name takes one

    vendor = PROVIDER_NAMES.get(endpoint.vendor, endpoint.vendor)
    model = infer_model(f"{vendor}:{endpoint.model}", provider_with_key)
    return model, f"{endpoint.vendor}:{endpoint.model}", None
