"""Diarizations of long recordings: jobs with progress, whose results are kept for a stated time, in memory alone."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Samples
from xvectors.audio.decoding.untrusted import Decoder
from xvectors.diarization import Diarizer
from xvectors.diarization.windows import HOP_S
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines import Engine
from xvectors.errors import AudioError, XVectorsError
from xvectors.gallery import Gallery

Stage = Literal["queued", "decoding", "diarizing", "done", "failed"]
EMBEDDING_SHARE = 0.9
"""Share of the progress at which all windows are embedded; clustering and naming take the rest."""


@dataclass
class Job:
    """One diarization.

    Attributes
    ----------
    tenant : whose job it is; no other tenant sees it
    progress : from 0 to 1
    result : `Diarization.to_dict`, once done
    error : why it failed
    expires_at : when the result is forgotten; None until the job has one
    """

    id: str
    tenant: str
    stage: Stage = "queued"
    progress: float = 0.0
    result: dict[str, Any] | None = None
    error: XVectorsError | None = None
    expires_at: datetime | None = None
    is_canceled: bool = False


class Canceled(AudioError):
    """The job was deleted while it ran."""


class Jobs:
    """Runs diarizations one after the other.

    Parameters
    ----------
    decoder
        Its processes decode.
    max_duration_s
        Longest recording.
    max_jobs
        Number of jobs, results included, of one tenant.
    kept_s
        Seconds for which results are kept.
    now
        The clock.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_duration_s: float,
        max_jobs: int = 20,
        kept_s: float = 3600.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._decoder, self._max_duration_s, self._max_jobs, self._kept_s = decoder, max_duration_s, max_jobs, kept_s
        self._now = now
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="xvectors-diarize")

    def add(
        self, tenant: str, recording: bytes, encoder: SpeakerEncoder, gallery: Gallery | None, speakers: str | None
    ) -> Job | None:
        """Queue a diarization; None where the tenant has too many jobs."""
        self._forget_expired()
        with self._lock:
            if sum(job.tenant == tenant for job in self._jobs.values()) >= self._max_jobs:
                return None
            job = Job(id=secrets.token_hex(12), tenant=tenant)
            self._jobs[job.id] = job
        self._executor.submit(self._run, job, recording, encoder, gallery, speakers)
        return job

    def find(self, tenant: str, job_id: str) -> Job | None:
        """Return the tenant's job; None if it is unknown or its result has been forgotten."""
        self._forget_expired()
        with self._lock:
            job = self._jobs.get(job_id)
        return job if job is not None and job.tenant == tenant else None

    def remove(self, tenant: str, job_id: str) -> bool:
        """Stop a job and forget its result; False if the job is unknown."""
        job = self.find(tenant, job_id)
        if job is None:
            return False
        job.is_canceled = True
        with self._lock:
            self._jobs.pop(job_id, None)
        return True

    def close(self) -> None:
        """Stop all jobs."""
        with self._lock:
            for job in self._jobs.values():
                job.is_canceled = True
        self._executor.shutdown(cancel_futures=True)

    def _run(
        self, job: Job, recording: bytes, encoder: SpeakerEncoder, gallery: Gallery | None, speakers: str | None
    ) -> None:
        try:
            job.stage = "decoding"
            duration_s = self._decoder.probe(recording).duration_s
            if duration_s > self._max_duration_s:
                raise AudioError(
                    f"the recording lasts {duration_s:.0f} s, but at most {self._max_duration_s:g} s are accepted; "
                    "cut it"
                )
            samples, _ = self._decoder.read(recording, sample_rate_hz=encoder.sample_rate_hz)
            job.stage = "diarizing"
            num_windows = max(1.0, duration_s / HOP_S)

            def embedded(count: int) -> None:
                if job.is_canceled:
                    raise Canceled("the job was deleted")
                job.progress = min(EMBEDDING_SHARE, job.progress + EMBEDDING_SHARE * count / num_windows)

            counting = SpeakerEncoder(cast(Engine, _CountingEngine(encoder.engine, embedded)))
            found = Diarizer(counting, gallery=gallery).diarize(samples, speakers=speakers)
            job.result, job.stage, job.progress = found.to_dict(), "done", 1.0
        except XVectorsError as error:
            job.error, job.stage = error, "failed"
        finally:
            if job.stage != "done":
                job.stage = "failed"
            job.expires_at = self._now() + timedelta(seconds=self._kept_s)

    def _forget_expired(self) -> None:
        now = self._now()
        with self._lock:
            for job in list(self._jobs.values()):
                if job.expires_at is not None and job.expires_at <= now:
                    del self._jobs[job.id]


class _CountingEngine:
    """An engine that tells how many windows it has embedded."""

    def __init__(self, engine: Engine, embedded: Callable[[int], None]) -> None:
        self._engine, self._embedded = engine, embedded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        rows = self._engine.embed(waveforms)
        self._embedded(len(waveforms))
        return rows
