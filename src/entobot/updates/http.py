"""REST of updates: translate only."""

import re
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from entobot.core.clock import Clock, rfc3339, rfc3339_or_none
from entobot.core.errors import Code, Problem
from entobot.storage.database import Database, Transaction
from entobot.things.types import TYPE_NAME
from entobot.updates.manifest import MAX_RELEASE_BYTES, read_manifest
from entobot.updates.model import MAX_NAMED, MAX_STAGES, DeviceState, OnDevice, Stage, State, Terms
from entobot.updates.rolling import Rollouts, Shown, Wanted
from entobot.updates.service import MAX_PAGE, Piece, Updates
from entobot.updates.store import Release, ReleaseKey
from entobot.web.authentication import Caller, caller
from entobot.web.routes import Api

AT = "/api/v1/updates"
BYTES = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{1,9})-(\d{0,9})")
Word = Annotated[str, Field(min_length=1, max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReleaseKeyRow(_Body):
    public_key: str
    name: str
    added_by: str
    added_at: str


class ReleaseKeyList(_Body):
    rows: list[ReleaseKeyRow]


class NewReleaseKey(_Body):
    public_key: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{43}$")] = Field(
        description="Ed25519, base64url, as 'entobot updates keygen' prints it."
    )
    name: str = Field(max_length=256, description="1 to 64 characters, for the list.")


class ReleaseFileRow(_Body):
    path: str
    size: int
    sha256: str


class ReleaseRow(_Body):
    release_id: str
    type: str
    version: str
    counter: int
    minimum_version: str
    created: str
    expires: str
    size: int = Field(description="Bytes of the whole release.")
    public_key: str = Field(description="Which signed it.")
    files: list[ReleaseFileRow]
    added_by: str
    added_at: str


class ReleasePage(_Body):
    rows: list[ReleaseRow]
    next: str | None


class StageBody(_Body):
    """A percentage, or tags and devices."""

    percent: Annotated[int, Field(strict=True, ge=1, le=100)] | None = Field(
        default=None, description="Of all things of the type, with those of the stages before."
    )
    tags: Annotated[list[Word], Field(max_length=MAX_NAMED)] = []
    devices: Annotated[list[Word], Field(max_length=MAX_NAMED)] = []


class NewRollout(_Body):
    type: Annotated[str, Field(pattern=TYPE_NAME)]
    version: Word
    stages: Annotated[list[StageBody], Field(min_length=1, max_length=MAX_STAGES)] = [StageBody(percent=100)]
    health_s: Annotated[int, Field(strict=True, ge=0, le=7 * 24 * 3600)] = Field(
        default=300, description="So long a board stays online with the new version before it is healthy."
    )
    reading: Annotated[str, Field(max_length=32)] = Field(
        default="", description="And this reading has come since. Empty: none is asked for."
    )
    timeout_s: Annotated[int, Field(strict=True, ge=1, le=7 * 24 * 3600)] = Field(
        default=3600, description="A board that began and is not healthy after so long has failed."
    )
    max_failed_percent: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=10, description="Of the boards of the stages so far; more than that pauses it."
    )


class RolloutStageRow(_Body):
    percent: int | None
    tags: list[str]
    devices: list[str]
    total: int
    states: dict[DeviceState, int] = Field(description="How many boards of this stage are in which state.")


class RolloutRow(_Body):
    rollout_id: str
    release_id: str
    type: str
    version: str
    state: State
    why: str = Field(description="Why it is paused.")
    stage: int = Field(description="The one that is under way, counted from 0.")
    stages: list[RolloutStageRow]
    health_s: float
    reading: str
    timeout_s: float
    max_failed_percent: int
    made_by: str
    created_at: str
    stage_at: str
    ended_at: str | None


class RolloutPage(_Body):
    rows: list[RolloutRow]
    next: str | None


class RolloutDeviceRow(_Body):
    device_id: str
    name: str
    stage: int
    state: DeviceState
    since: str
    reason: str = Field(description="Why it failed, as far as the board says.")
    from_version: str


class RolloutDevicePage(_Body):
    rows: list[RolloutDeviceRow]
    next: str | None


class RemovedKey(_Body):
    public_key: str


class RemovedRelease(_Body):
    release_id: str


def add_routes(api: Api, updates: Updates, rollouts: Rollouts, database: Database, clock: Clock) -> None:
    stock, rolling = _Stock(updates, database, clock), _Rolling(rollouts, database, clock)
    gone = [Code.NOT_FOUND]
    keys, releases, one = f"{AT}/keys", f"{AT}/releases", f"{AT}/rollouts/{{rollout_id}}"
    api.add("GET", keys, stock.list_release_keys)
    problems = [Code.INVALID, Code.QUOTA_EXCEEDED]
    api.add("POST", keys, stock.add_release_key, status_code=201, problems=problems)
    api.add("DELETE", f"{keys}/{{public_key}}", stock.remove_release_key, problems=gone)
    api.add("GET", releases, stock.list_releases)
    api.add_raw(
        "POST",
        releases,
        stock.add_release,
        max_body_bytes=MAX_RELEASE_BYTES,
        media_type=BYTES,
        problems=[*problems, Code.SIGNATURE_INVALID, Code.TOO_LARGE],
        operation=_add_operation,
    )
    api.add("DELETE", f"{releases}/{{release_id}}", stock.remove_release, problems=[*gone, Code.INVALID])
    at = f"{releases}/{{release_id}}/content"
    api.add_raw("GET", at, stock.get_release_content, problems=[*gone, Code.INVALID], operation=_CONTENT)
    api.add("GET", f"{AT}/rollouts", rolling.list_rollouts)
    problems = [*gone, Code.INVALID, Code.QUOTA_EXCEEDED, Code.SIGNATURE_INVALID]
    api.add("POST", f"{AT}/rollouts", rolling.start_rollout, status_code=201, problems=problems)
    api.add("GET", one, rolling.show_rollout, problems=gone)
    api.add("GET", f"{one}/devices", rolling.list_rollout_devices, problems=gone)
    for verb, handler in (
        ("pause", rolling.pause_rollout),
        ("resume", rolling.resume_rollout),
        ("abort", rolling.abort_rollout),
    ):
        api.add("POST", f"{one}/{verb}", handler, problems=[*gone, Code.INVALID])


class _Stock:
    def __init__(self, updates: Updates, database: Database, clock: Clock) -> None:
        self._updates = updates
        self._database = database
        self._clock = clock

    async def list_release_keys(self, principal: Caller) -> ReleaseKeyList:
        """The keys whose releases this gateway takes."""
        found = await self._database.read(lambda tx: self._updates.keys(tx, principal))
        return ReleaseKeyList(rows=[_key(one) for one in found])

    async def add_release_key(self, body: NewReleaseKey, principal: Caller) -> ReleaseKeyRow:
        """Take releases that this key signed. The private key stays where releases are made."""
        now_ms = self._clock.now_ms()
        made = await self._database.write(
            lambda tx: self._updates.add_key(tx, principal, body.public_key, body.name, now_ms)
        )
        return _key(made)

    async def remove_release_key(self, public_key: str, principal: Caller) -> RemovedKey:
        """Take no more releases of it. What is being rolled out is paused."""
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: self._updates.remove_key(tx, principal, public_key, now_ms))
        return RemovedKey(public_key=public_key)

    async def list_releases(
        self,
        principal: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> ReleasePage:
        """Every release, newest first."""
        rows, following = await self._database.read(lambda tx: self._updates.page(tx, principal, cursor, limit))
        return ReleasePage(rows=[ReleaseRow(**_release(one)) for one in rows], next=following)

    async def add_release(self, request: Request) -> Response:
        """A signed release, as 'entobot updates sign' wrote it. The same one again changes nothing."""
        made = await self._updates.add(caller(request), await request.body())
        return JSONResponse(_release(made), status_code=201)

    async def remove_release(self, release_id: str, principal: Caller) -> RemovedRelease:
        """Refused while it is being rolled out."""
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: self._updates.remove(tx, principal, release_id, now_ms))
        return RemovedRelease(release_id=release_id)

    async def get_release_content(self, request: Request) -> Response:
        """The bytes, or a range of them: for boards to which a roll-out brings them."""
        who, release_id, asked = caller(request), request.path_params["release_id"], request.headers.get("range")
        wanted = _range(asked)
        piece = await self._database.read(lambda tx: self._updates.open_piece(tx, who, release_id, wanted))
        content = self._updates.bytes_of(piece)
        headers = {"content-length": str(piece.end - piece.first), "accept-ranges": "bytes"}
        if asked is not None:
            headers["content-range"] = _content_range(piece)
        return StreamingResponse(content, 200 if asked is None else 206, headers, BYTES)


class _Rolling:
    def __init__(self, rollouts: Rollouts, database: Database, clock: Clock) -> None:
        self._rollouts = rollouts
        self._database = database
        self._clock = clock

    async def list_rollouts(
        self,
        principal: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    ) -> RolloutPage:
        """Every roll-out, newest first."""
        rows, following = await self._database.read(lambda tx: self._rollouts.page(tx, principal, cursor, limit))
        return RolloutPage(rows=[_rollout(one) for one in rows], next=following)

    async def start_rollout(self, body: NewRollout, principal: Caller) -> RolloutRow:
        """Bring a release to the things of its type, stage by stage."""
        now_ms = self._clock.now_ms()
        wanted = Wanted(
            body.type,
            body.version,
            tuple(Stage(one.percent, tuple(one.tags), tuple(one.devices)) for one in body.stages),
            Terms(body.health_s * 1000, body.reading, body.timeout_s * 1000, body.max_failed_percent),
        )

        def unit(tx: Transaction) -> Shown:
            made = self._rollouts.begin(tx, principal, wanted, now_ms)
            return self._rollouts.show(tx, principal, made.rollout_id)

        return _rollout(await self._database.write(unit))

    async def show_rollout(self, rollout_id: str, principal: Caller) -> RolloutRow:
        """One roll-out, and how far each of its stages is."""
        return _rollout(await self._database.read(lambda tx: self._rollouts.show(tx, principal, rollout_id)))

    async def list_rollout_devices(
        self,
        rollout_id: str,
        principal: Caller,
        cursor: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    ) -> RolloutDevicePage:
        """The boards of a roll-out, by device id, and how far each is."""
        rows, following = await self._database.read(
            lambda tx: self._rollouts.devices(tx, principal, rollout_id, cursor, limit)
        )
        return RolloutDevicePage(rows=[_device(one, name) for one, name in rows], next=following)

    async def pause_rollout(self, rollout_id: str, principal: Caller) -> RolloutRow:
        """No board begins any more, and none downloads on."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Shown:
            self._rollouts.pause(tx, principal, rollout_id, now_ms)
            return self._rollouts.show(tx, principal, rollout_id)

        return _rollout(await self._database.write(unit))

    async def resume_rollout(self, rollout_id: str, principal: Caller) -> RolloutRow:
        """Go on. What failed so far does not count any more."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Shown:
            self._rollouts.resume(tx, principal, rollout_id, now_ms)
            return self._rollouts.show(tx, principal, rollout_id)

        return _rollout(await self._database.write(unit))

    async def abort_rollout(self, rollout_id: str, principal: Caller) -> RolloutRow:
        """End it for good. What was installed stays."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> Shown:
            self._rollouts.abort(tx, principal, rollout_id, now_ms)
            return self._rollouts.show(tx, principal, rollout_id)

        return _rollout(await self._database.write(unit))


def _range(asked: str | None) -> tuple[int, int | None]:
    """Raises `invalid` for anything but one range from a byte on."""
    if asked is None:
        return 0, None
    found = _RANGE.fullmatch(asked.strip())
    if found is None:
        raise Problem(Code.INVALID, "Ask for one range, as in 'Range: bytes=1000-' or 'bytes=1000-1999'.")
    return int(found[1]), int(found[2]) if found[2] else None


def _content_range(piece: Piece) -> str:
    return f"bytes {piece.first}-{piece.end - 1}/{piece.release.size}"


def _key(one: ReleaseKey) -> ReleaseKeyRow:
    return ReleaseKeyRow(
        public_key=one.public_key, name=one.name, added_by=one.added_by, added_at=rfc3339(one.added_at_ms)
    )


def _release(one: Release) -> dict[str, Any]:
    manifest = read_manifest(one.manifest)
    return {
        "release_id": one.release_id,
        "type": one.type,
        "version": one.version,
        "counter": manifest.counter,
        "minimum_version": manifest.minimum_version,
        "created": manifest.created,
        "expires": manifest.expires,
        "size": one.size,
        "public_key": one.public_key,
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in manifest.files],
        "added_by": one.added_by,
        "added_at": rfc3339(one.added_at_ms),
    }


def _rollout(shown: Shown) -> RolloutRow:
    one = shown.rollout
    return RolloutRow(
        rollout_id=one.rollout_id,
        release_id=one.release_id,
        type=one.type,
        version=one.version,
        state=one.state,
        why=one.why,
        stage=one.stage,
        stages=[_stage(stage, dict(shown.tallies.get(number, {}))) for number, stage in enumerate(one.stages)],
        health_s=one.terms.health_ms / 1000,
        reading=one.terms.reading,
        timeout_s=one.terms.timeout_ms / 1000,
        max_failed_percent=one.terms.max_failed_percent,
        made_by=one.made_by,
        created_at=rfc3339(one.created_at_ms),
        stage_at=rfc3339(one.stage_at_ms),
        ended_at=rfc3339_or_none(one.ended_at_ms),
    )


def _stage(stage: Stage, states: dict[DeviceState, int]) -> RolloutStageRow:
    return RolloutStageRow(
        percent=stage.percent,
        tags=list(stage.tags),
        devices=list(stage.devices),
        total=sum(states.values()),
        states=states,
    )


def _device(one: OnDevice, name: str) -> RolloutDeviceRow:
    return RolloutDeviceRow(
        device_id=one.device_id,
        name=name,
        stage=one.stage,
        state=one.state,
        since=rfc3339(one.since_ms),
        reason=one.reason,
        from_version=one.from_version,
    )


_BYTES_BODY = {"schema": {"type": "string", "format": "binary"}}
_CONTENT: dict[str, Any] = {
    "summary": "Get Release Content",
    "description": "The bytes, or one `Range` of them: for boards to which a roll-out brings them.",
    "parameters": [{"name": "release_id", "in": "path", "required": True, "schema": {"type": "string"}}],
    "responses": {
        "200": {"description": "All bytes.", "content": {BYTES: _BYTES_BODY}},
        "206": {"description": "The bytes that were asked for.", "content": {BYTES: _BYTES_BODY}},
    },
}


def _add_operation() -> dict[str, Any]:
    return {
        "summary": "Add Release",
        "description": "A signed release, as `entobot updates sign` wrote it. The same one again changes nothing.",
        "requestBody": {"required": True, "content": {BYTES: _BYTES_BODY}},
        "responses": {
            "201": {
                "description": "It is there.",
                "content": {
                    "application/json": {
                        "schema": ReleaseRow.model_json_schema(ref_template="#/components/schemas/{model}")
                    }
                },
            }
        },
    }
