"""Bodies of requests: JSON with recordings as data URIs or base64, or multipart forms with files.

Recordings stay in memory: nothing is written to disk.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from xvectors.gallery.validation import MAX_NAME_CHARACTERS, MAX_NOTE_CHARACTERS
from xvectors.serve.problems import FieldProblem, Problem

MAX_FILES = 20
JSON, FORM = "application/json", "multipart/form-data"

T = TypeVar("T", bound="Body")


def _decoded(value: object) -> object:
    """Return the bytes of a recording: of a form's file unchanged, of a data URI or base64 decoded."""
    if not isinstance(value, str):
        return value
    if value.startswith(("http://", "https://", "file:")):
        raise ValueError("is an address, which the service does not fetch; send the recording as a data URI or base64")
    if value.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError("is not a base64 data URI; write it as data:audio/wav;base64,...")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not valid base64; send the bytes of a sound file, encoded") from error


Audio = Annotated[
    bytes,
    BeforeValidator(_decoded),
    Field(min_length=1),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 4,
            "contentEncoding": "base64",
            "description": "Bytes of a sound file: a data URI (`data:audio/wav;base64,...`) or plain base64.",
        }
    ),
]
Prior = Annotated[
    float | None, Field(gt=0, lt=1, description="Probability before the recording is heard; by default the service's.")
]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS, description="Name of the speaker.")]


class Body(BaseModel):
    """Fields that every request may have."""

    model_config = ConfigDict(extra="forbid")
    FILES: ClassVar[tuple[str, ...]] = ("audio",)
    """Fields that the files of a form fill, in this order, where their parts are named `file`."""

    model: str | None = Field(default=None, description="System to use; only the one that is served is possible.")


class VerifyBody(Body):
    """Two recordings, or one recording and the name of an enrolled speaker."""

    FILES: ClassVar[tuple[str, ...]] = ("audio1", "audio2")

    audio1: Audio
    audio2: Audio | None = None
    speaker: Name | None = None
    prior: Prior = None


class EmbedBody(Body):
    """One recording."""

    audio: Audio


class RegisterBody(Body):
    """Recordings of one speaker."""

    name: Name
    audio: Annotated[
        list[Audio],
        BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
        Field(min_length=1, max_length=MAX_FILES),
    ]
    consent: Annotated[str | None, Field(max_length=MAX_NOTE_CHARACTERS)] = Field(
        default=None, description="Note on what the speaker consented to."
    )
    expires: Annotated[str | None, Field(max_length=40)] = Field(
        default=None, description="Day or time (ISO 8601) from which the voiceprints no longer match, and are removed."
    )


class IdentifyBody(Body):
    """One recording."""

    audio: Audio
    top_k: Annotated[int, Field(ge=1, le=100)] = Field(default=3, description="Number of speakers to list.")
    prior: Prior = None


class ForgetBody(Body):
    """The speaker to forget, by `id`, which is the name."""

    FILES: ClassVar[tuple[str, ...]] = ()

    id: Name


class AnalyzeBody(Body):
    """One recording."""

    audio: Audio


class DiarizeBody(Body):
    """One recording, of any number of speakers."""

    audio: Audio
    speakers: Annotated[str | None, Field(pattern=r"^[1-9]\d{0,2}(\.\.[1-9]\d{0,2})?$")] = Field(
        default=None, description="Number of speakers, as 3, or its limits, as 2..6; by default what the evidence says."
    )


class _InMemoryParser(MultiPartParser):
    """Never moves a file to disk."""

    spool_max_size = 1 << 40

    def close(self) -> None:
        """Close all files, also one whose part the request has cut off."""
        for file in self._files_to_close_on_error:
            file.close()


async def read_body(request: Request, kind: type[T]) -> T:
    """Read the body of a request. Raises Problem where it is not what `kind` describes."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == JSON:
            return kind.model_validate_json(await request.body())
        if media_type == FORM:
            return kind.model_validate(await _form(request, kind.FILES))
    except ValidationError as error:
        raise _invalid(error) from error
    raise Problem(
        "unsupported-type",
        f"the content type is {media_type[:60]!r}" if media_type else "the request states no content type",
        f"send {JSON} or {FORM}",
    )


async def _form(request: Request, names: tuple[str, ...]) -> dict[str, Any]:
    parser = _InMemoryParser(request.headers, request.stream(), max_files=MAX_FILES, max_fields=20)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem("bad-request", f"the form cannot be read: {error.message}", "send a valid multipart form") from (
            error
        )
    found: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    unnamed: list[bytes] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            found[name] = value
        elif name == "file":
            unnamed.append(await value.read())
        else:
            files.setdefault(name, []).append(await value.read())
    parser.close()
    free = [name for name in names if name not in files and name not in found]
    if len(names) == 1 and unnamed:
        files.setdefault(names[0], []).extend(unnamed)
    elif len(unnamed) > len(free):
        raise Problem("bad-request", f"the form has {len(unnamed)} files", f"send at most {len(free)}")
    else:
        files.update({name: [content] for name, content in zip(free, unnamed, strict=False)})
    return found | {name: contents[0] if len(contents) == 1 else contents for name, contents in files.items()}


def _invalid(error: ValidationError) -> Problem:
    found = [
        FieldProblem(field=".".join(map(str, row["loc"])) or "body", detail=row["msg"].removeprefix("Value error, "))
        for row in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    is_json = all(row["type"] != "json_invalid" for row in error.errors(include_url=False))
    first = found[0]
    return Problem(
        "invalid" if is_json else "bad-request",
        f"{first.field}: {first.detail}",
        "correct the fields in errors; /openapi.json describes them",
        errors=found,
    )


def request_body(kind: type[Body]) -> dict[str, Any]:
    """Describe a body for OpenAPI, as JSON and as a form."""
    schema = kind.model_json_schema()
    form = kind.model_json_schema()
    for name in kind.FILES:
        form["properties"][name] = {"type": "string", "format": "binary", "description": "A sound file."}
    if kind.FILES:
        form["properties"]["file"] = {
            "type": "string",
            "format": "binary",
            "description": f"A sound file: the next of {', '.join(kind.FILES)} that is not given.",
        }
        form["required"] = [name for name in form.get("required", []) if name not in kind.FILES]
    content = {JSON: {"schema": schema}, FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
