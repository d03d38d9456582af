"""REST of files: announced, sent in parts, finished, and read by whoever reads the conversation."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from entobot.core.clock import Clock, rfc3339
from entobot.core.errors import Code, Problem
from entobot.files.meters import FileMeters
from entobot.files.model import MAX_NAME_CHARACTERS, PART_BYTES, File, State
from entobot.files.service import Files
from entobot.files.sniffing import BYTES, SHOWN
from entobot.storage.database import Database, StorageFailed, Transaction
from entobot.web.authentication import Caller, caller
from entobot.web.routes import Api

AT = "/api/v1/files"
ONE = f"{AT}/{{file_id}}"
PART = f"{ONE}/parts/{{number}}"
CONTENT_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Of a file's bytes: whatever they are, opened by themselves they are nobody's page and run nothing."""

CheckDisk = Callable[[int], Awaitable[None]]
"""Raises `storage_full` where the disk has no room for so many bytes."""


class NewFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=4 * MAX_NAME_CHARACTERS, description="Of the file, without its folder.")
    size: int = Field(ge=1, le=2**40, description="Bytes.")


class FileRow(BaseModel):
    """`media_type` is found in the content when the file is whole. `missing` is there while parts are."""

    file_id: str
    name: str
    media_type: str
    size: int
    state: State
    created_at: str
    device_id: str | None
    message_id: str | None
    conversation_id: str | None
    part_bytes: int = Field(description="Of every part but the last.")
    parts: int
    missing: list[int] | None = None


class FilePage(BaseModel):
    rows: list[FileRow]
    next: str | None = Field(description="Pass as `cursor` for the following page.")
    used_bytes: int
    max_person_bytes: int
    max_bytes: int = Field(description="Of one file. 0: none are taken.")
    types: list[str] = Field(description="Kinds of content that are taken; empty: all.")


class PartRow(BaseModel):
    file_id: str
    number: int


def file_row(file: File, missing: list[int] | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "file_id": file.file_id,
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "state": str(file.state),
        "created_at": rfc3339(file.created_at_ms),
        "device_id": file.device_id,
        "message_id": file.message_id,
        "conversation_id": file.conversation_id,
        "part_bytes": PART_BYTES,
        "parts": file.parts,
    }
    return row if missing is None else row | {"missing": missing}


def add_routes(
    api: Api, files: Files, database: Database, clock: Clock, check_disk: CheckDisk, meters: FileMeters
) -> None:
    routes = _Routes(files, database, clock, check_disk, meters)
    shown: dict[str, Any] = {"response_model": FileRow, "response_model_exclude_unset": True}
    full = (Code.QUOTA_EXCEEDED, Code.STORAGE_FULL, Code.TOO_LARGE)
    api.add("POST", AT, routes.announce_file, status_code=201, problems=full, **shown)
    api.add("GET", AT, routes.list_files, response_model=FilePage, response_model_exclude_unset=True)
    api.add("GET", ONE, routes.get_file, problems=[Code.NOT_FOUND], **shown)
    finishing = (Code.FILE_NOT_WHOLE, Code.NOT_FOUND, Code.TYPE_REFUSED)
    api.add("POST", f"{ONE}/finish", routes.finish_file, problems=finishing, **shown)
    api.add("DELETE", ONE, routes.delete_file, status_code=204, problems=[Code.NOT_FOUND])
    api.add_raw(
        "PUT",
        PART,
        routes.put_file_part,
        max_body_bytes=PART_BYTES,
        media_type=BYTES,
        problems=(Code.NOT_FOUND, Code.STORAGE_FULL, Code.TOO_LARGE),
        operation=_put_part_operation,
    )
    api.add_raw("GET", f"{ONE}/content", routes.get_file_content, problems=[Code.NOT_FOUND], operation=_CONTENT)


class _Routes:
    def __init__(
        self, files: Files, database: Database, clock: Clock, check_disk: CheckDisk, meters: FileMeters
    ) -> None:
        self._files = files
        self._database = database
        self._clock = clock
        self._check_disk = check_disk
        self._meters = meters

    async def announce_file(self, who: Caller, announced: NewFile) -> object:
        """Make room for a file. Then send its parts, each of `part_bytes` but the last, and finish it."""
        now_ms = self._clock.now_ms()

        def unit(tx: Transaction) -> object:
            file = self._files.announce(tx, who, announced.name, announced.size, now_ms)
            return file_row(file, list(range(file.parts)))

        try:
            await self._check_disk(announced.size)
            return await self._database.write(unit, who.user_id)
        except Problem as problem:
            self._meters.refused(problem.code)
            raise

    async def list_files(
        self,
        who: Caller,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> object:
        """Your whole files, newest first, and how much room there is."""

        def unit(tx: Transaction) -> object:
            rows, following = self._files.list(tx, who, cursor, limit)
            room = self._files.room
            return {
                "rows": [file_row(row) for row in rows],
                "next": following,
                "used_bytes": self._files.used(tx, who.user_id),
                "max_person_bytes": room.max_person,
                "max_bytes": room.max_file,
                "types": list(self._files.types),
            }

        return await self._database.read(unit)

    async def get_file(self, who: Caller, file_id: str) -> object:
        """What is known of it; while it arrives, which parts are missing."""

        def unit(tx: Transaction) -> object:
            file = self._files.get(tx, who, file_id)
            return file_row(file, self._files.missing(tx, file) if file.state is State.ARRIVING else None)

        return await self._database.read(unit)

    async def finish_file(self, who: Caller, file_id: str) -> object:
        """Say that all parts were sent. From then on the file can belong to a message."""
        now_ms = self._clock.now_ms()
        found = await self._database.write(lambda tx: self._files.finish(tx, who, file_id, now_ms), who.user_id)
        if isinstance(found, Problem):
            self._meters.refused(found.code)
            await self._files.erase(self._database, file_id)
            raise found
        return file_row(found)

    async def delete_file(self, who: Caller, file_id: str) -> Response:
        """Delete its bytes. Messages that name it stay."""
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: self._files.delete(tx, who, file_id, now_ms), who.user_id)
        await self._files.erase(self._database, file_id)
        return Response(status_code=204)

    async def put_file_part(self, request: Request) -> Response:
        """One part, as it is. Sent again it changes nothing."""
        who, file_id, number = caller(request), request.path_params["file_id"], _number(request.path_params)
        data = await request.body()
        try:
            await self._database.write(lambda tx: self._files.put_part(tx, who, file_id, number, data), who.user_id)
        except StorageFailed:
            await self._check_disk(len(data))  # where it was the disk, the answer says so
            raise
        self._meters.arrived(len(data))
        return JSONResponse({"file_id": file_id, "number": number})

    async def get_file_content(self, request: Request) -> Response:
        """The bytes. Pictures and sound of known kinds have their type; everything else is to be saved, not shown."""
        who, file_id = caller(request), request.path_params["file_id"]
        file = await self._database.read(lambda tx: self._files.get(tx, who, file_id))
        if file.state is not State.KEPT:
            raise Problem(Code.NOT_FOUND, "This file has not arrived as a whole.")
        is_shown = file.media_type in SHOWN
        headers = {
            "content-disposition": f"{'inline' if is_shown else 'attachment'}; filename*=UTF-8''{quote(file.name, safe='')}",
            "content-length": str(file.size),
            "content-security-policy": CONTENT_POLICY,
        }
        self._meters.left(file.size)
        content = self._files.content(self._database, file)
        return StreamingResponse(content, headers=headers, media_type=file.media_type if is_shown else BYTES)


def _number(path: Mapping[str, str]) -> int:
    text = path["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise Problem(Code.NOT_FOUND, "Parts are counted from 0.")
    return int(text)


def _parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


_BYTES_BODY = {"schema": {"type": "string", "format": "binary"}}
_CONTENT: dict[str, Any] = {
    "summary": "Get File Content",
    "description": "The bytes, to be saved; pictures and sound of known kinds have their type.",
    "parameters": [_parameter("file_id", "string")],
    "responses": {"200": {"description": "The bytes.", "content": {BYTES: _BYTES_BODY}}},
}


def _put_part_operation() -> dict[str, Any]:
    return {
        "summary": "Put File Part",
        "description": "Part `number` of a file, counted from 0. Sent again it changes nothing.",
        "parameters": [_parameter("file_id", "string"), _parameter("number", "integer")],
        "requestBody": {"required": True, "content": {BYTES: _BYTES_BODY}},
        "responses": {
            "200": {
                "description": "The part is durable.",
                "content": {"application/json": {"schema": PartRow.model_json_schema()}},
            }
        },
    }
