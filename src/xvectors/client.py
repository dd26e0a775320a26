"""Client of `xvectors serve` (extra `serve`): `Client`, and `AsyncClient` with the same methods to await.

Recordings are paths or the bytes of sound files. Answers are those of `xvectors.serve.answers`; what the service
refuses raises ServiceError, with the remedy that it names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar
from urllib.parse import quote

from xvectors.errors import AudioFileError, MissingExtraError, ServiceError

try:
    import httpx2
    from pydantic import BaseModel

    from xvectors.serve.answers import (
        AnalyzeAnswer,
        EmbedAnswer,
        ForgottenAnswer,
        IdentifyAnswer,
        MapAnswer,
        RegisterAnswer,
        SpeakerAnswer,
        SpeakersAnswer,
        VerifyAnswer,
    )
except ModuleNotFoundError as error:
    if error.name not in ("httpx2", "pydantic"):
        raise
    raise MissingExtraError(
        f"the client needs {error.name}, which is not installed: pip install 'xvectors[serve]'"
    ) from error

__all__ = ["AsyncClient", "Client"]

Recording: TypeAlias = "str | os.PathLike[str] | bytes"
A = TypeVar("A", bound=BaseModel)

ADDRESS = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class _Call(Generic[A]):
    """A request, and the kind of its answer."""

    kind: type[A]
    method: str
    path: str
    files: list[tuple[str, bytes]] = field(default_factory=list)
    fields: Mapping[str, object] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        found: dict[str, Any] = {"params": _given(self.query)}
        if self.files:
            found |= {"files": self.files, "data": _given(self.fields)}
        return found

    def answer(self, response: httpx2.Response) -> A:
        if response.is_success:
            return self.kind.model_validate_json(response.content)
        try:
            problem = response.json()
            raise ServiceError(
                f"{problem['detail']}; {problem['remedy']}",
                status=response.status_code,
                kind=problem["type"].rpartition("/")[2],
                request_id=problem["request_id"],
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ServiceError(
                f"{response.url.host} answers with status {response.status_code}, not as `xvectors serve` does; check "
                "the address",
                status=response.status_code,
            ) from None


def _verify(
    first: Recording, second: Recording | None, speaker: str | None, prior: float | None
) -> _Call[VerifyAnswer]:
    files = [("audio1", _content(first)), *([] if second is None else [("audio2", _content(second))])]
    return _Call(VerifyAnswer, "POST", "/v1/voice/verify", files, {"speaker": speaker, "prior": prior})


def _identify(recording: Recording, top_k: int, prior: float | None) -> _Call[IdentifyAnswer]:
    files = [("audio", _content(recording))]
    return _Call(IdentifyAnswer, "POST", "/v1/voice/identify", files, {"top_k": top_k, "prior": prior})


def _register(
    name: str, recordings: Sequence[Recording] | Recording, consent: str | None, expires: str | None
) -> _Call[RegisterAnswer]:
    several = [recordings] if isinstance(recordings, str | bytes | os.PathLike) else recordings
    files = [("audio", _content(each)) for each in several]
    fields = {"name": name, "consent": consent, "expires": expires}
    return _Call(RegisterAnswer, "POST", "/v1/voice/register", files, fields)


def _embed(recording: Recording) -> _Call[EmbedAnswer]:
    return _Call(EmbedAnswer, "POST", "/v1/voice/embed", [("audio", _content(recording))])


def _analyze(recording: Recording) -> _Call[AnalyzeAnswer]:
    return _Call(AnalyzeAnswer, "POST", "/v1/voice/analyze", [("audio", _content(recording))])


def _voice_map() -> _Call[MapAnswer]:
    return _Call(MapAnswer, "GET", "/v1/map")


def _speakers(limit: int, after: str) -> _Call[SpeakersAnswer]:
    return _Call(SpeakersAnswer, "GET", "/v1/speakers", query={"limit": limit, "after": after})


def _speaker(name: str) -> _Call[SpeakerAnswer]:
    return _Call(SpeakerAnswer, "GET", f"/v1/speakers/{quote(name, safe='')}")


def _forget(name: str, last: bool) -> _Call[ForgottenAnswer]:
    return _Call(ForgottenAnswer, "DELETE", f"/v1/speakers/{quote(name, safe='')}", query={"last": last})


class Client:
    """Asks a service.

    Parameters
    ----------
    address
        Where `xvectors serve` listens.
    key
        A key of `xvectors keys add`, where the service needs one.
    timeout_s
        Longest time to wait for an answer.

    Every method raises ServiceError where the service refuses, fails or cannot be reached, and AudioFileError for a
    recording that cannot be read.

    Examples
    --------
    >>> with Client() as client:                                                         # doctest: +SKIP
    ...     client.register("ann", ["a1.wav", "a2.wav"], consent="for the door")
    ...     client.verify("x.wav", speaker="ann").decision
    'accept'
    """

    def __init__(self, address: str = ADDRESS, *, key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx2.Client(base_url=address, headers=_headers(key), timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def verify(
        self,
        first: Recording,
        second: Recording | None = None,
        *,
        speaker: str | None = None,
        prior: float | None = None,
    ) -> VerifyAnswer:
        """Compare two recordings, or a recording with an enrolled speaker."""
        return self._send(_verify(first, second, speaker, prior))

    def identify(self, recording: Recording, *, top_k: int = 3, prior: float | None = None) -> IdentifyAnswer:
        """Find the enrolled speaker that a recording is of, if any."""
        return self._send(_identify(recording, top_k, prior))

    def register(
        self,
        name: str,
        recordings: Sequence[Recording] | Recording,
        *,
        consent: str | None = None,
        expires: str | None = None,
    ) -> RegisterAnswer:
        """Enroll recordings of a speaker, all or none of them; `expires` is a date or time in ISO 8601."""
        return self._send(_register(name, recordings, consent, expires))

    def embed(self, recording: Recording) -> EmbedAnswer:
        """Embed the speech of a recording."""
        return self._send(_embed(recording))

    def analyze(self, recording: Recording) -> AnalyzeAnswer:
        """Measure the quality of a recording, and ask whether it can be compared."""
        return self._send(_analyze(recording))

    def voice_map(self) -> MapAnswer:
        """Lay out the enrolled speakers in the plane."""
        return self._send(_voice_map())

    def speakers(self, *, limit: int = 100, after: str = "") -> SpeakersAnswer:
        """List the enrolled speakers whose names follow `after`."""
        return self._send(_speakers(limit, after))

    def speaker(self, name: str) -> SpeakerAnswer:
        """Describe an enrolled speaker."""
        return self._send(_speaker(name))

    def forget(self, name: str, *, last: bool = False) -> int:
        """Remove a speaker, or only the last enrollment; return the number of voiceprints."""
        return self._send(_forget(name, last)).removed

    def _send(self, call: _Call[A]) -> A:
        try:
            response = self._http.request(call.method, call.path, **call.options())
        except httpx2.TransportError as error:
            raise _unreachable(str(self._http.base_url), error) from error
        return call.answer(response)


class AsyncClient:
    """Asks a service, with the methods of `Client` to await."""

    def __init__(self, address: str = ADDRESS, *, key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx2.AsyncClient(base_url=address, headers=_headers(key), timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def verify(
        self,
        first: Recording,
        second: Recording | None = None,
        *,
        speaker: str | None = None,
        prior: float | None = None,
    ) -> VerifyAnswer:
        """Do what `Client.verify` does."""
        return await self._send(_verify(first, second, speaker, prior))

    async def identify(self, recording: Recording, *, top_k: int = 3, prior: float | None = None) -> IdentifyAnswer:
        """Do what `Client.identify` does."""
        return await self._send(_identify(recording, top_k, prior))

    async def register(
        self,
        name: str,
        recordings: Sequence[Recording] | Recording,
        *,
        consent: str | None = None,
        expires: str | None = None,
    ) -> RegisterAnswer:
        """Do what `Client.register` does."""
        return await self._send(_register(name, recordings, consent, expires))

    async def embed(self, recording: Recording) -> EmbedAnswer:
        """Do what `Client.embed` does."""
        return await self._send(_embed(recording))

    async def analyze(self, recording: Recording) -> AnalyzeAnswer:
        """Do what `Client.analyze` does."""
        return await self._send(_analyze(recording))

    async def voice_map(self) -> MapAnswer:
        """Do what `Client.voice_map` does."""
        return await self._send(_voice_map())

    async def speakers(self, *, limit: int = 100, after: str = "") -> SpeakersAnswer:
        """Do what `Client.speakers` does."""
        return await self._send(_speakers(limit, after))

    async def speaker(self, name: str) -> SpeakerAnswer:
        """Do what `Client.speaker` does."""
        return await self._send(_speaker(name))

    async def forget(self, name: str, *, last: bool = False) -> int:
        """Do what `Client.forget` does."""
        return (await self._send(_forget(name, last))).removed

    async def _send(self, call: _Call[A]) -> A:
        try:
            response = await self._http.request(call.method, call.path, **call.options())
        except httpx2.TransportError as error:
            raise _unreachable(str(self._http.base_url), error) from error
        return call.answer(response)


def _content(recording: Recording) -> bytes:
    if isinstance(recording, bytes):
        return recording
    try:
        return Path(recording).read_bytes()
    except OSError as error:
        raise AudioFileError(f"{os.fspath(recording)}: cannot be read: {error.strerror}; check the path") from error


def _given(values: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _unreachable(address: str, error: Exception) -> ServiceError:
    why = str(error) or type(error).__name__
    return ServiceError(f"{address} does not answer ({why}); check the address, and that `xvectors serve` runs")
