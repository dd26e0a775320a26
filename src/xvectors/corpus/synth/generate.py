"""Generate a synthetic corpus: <speaker>/<speaker>-<nnn>.flac (or .wav) and metadata.csv.

Every utterance is a pure function of (seed, speaker, utterance), so the bytes do not depend on the number of processes,
their order, or interruptions.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xvectors import audio
from xvectors.corpus.synth.espeak import Espeak, locate
from xvectors.corpus.synth.sentences import draw_sentence
from xvectors.corpus.synth.sessions import Samples, Session, draw_session, record
from xvectors.corpus.synth.voices import Voice, draw_voice, speaker_name
from xvectors.errors import ConfigError, StorageError, XVectorsError
from xvectors.files import write_text
from xvectors.processes import without_main_script
from xvectors.progress import progress_bar

SAMPLE_RATE_HZ = 16_000
SETTINGS_FILE = "synth.json"
METADATA_FILE = "metadata.csv"
FORMATS = ("flac", "wav")
COLUMNS = ("path", "speaker", "gender", "age", "session", "duration_s", "accent", "snr_db", "rt60_s", "text")

_GENERATOR = 1  # incremented when the same settings give other bytes
_SECONDS = (2.6, 6.6)  # of speech, before the pauses: drawn around _TYPICAL_SECONDS, clipped to this
_TYPICAL_SECONDS = 3.8
_UTTERANCES_PER_TASK = 20


@dataclass(frozen=True, kw_only=True)
class UtterancePlan:
    """The plan of one utterance."""

    number: int
    name: str
    text: str
    voice: Voice  # as it sounds in this session
    session: Session


def synthesize(
    out: Path | str,
    *,
    speakers: int = 60,
    utterances: int = 20,
    seed: int = 0,
    audio_format: str = "flac",
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Make a corpus of synthetic voices in `out` and return the path of its metadata.csv.

    Recordings are 16 kHz, mono, 16 bit, 2 to 8 s, in FLAC or, with `audio_format` "wav" and twice the size, WAV. The
    columns of metadata.csv are COLUMNS; paths are relative to its folder, ages in years, durations in seconds. A call
    with the same settings makes missing files only. A small corpus is the beginning of a larger one with the same seed.
    `workers` processes share the work (None: one per core).

    Raises ConfigError (a count below one, a negative seed, another format, `out` holds something else), StorageError
    (nothing can be written) or MissingExtraError (espeakng-loader is not installed).
    """
    out = Path(out)
    for name, value, least in (("speakers", speakers, 1), ("utterances", utterances, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} is {value}: it must be at least {least}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}: it must be at least 1, or left out for one per core")
    if audio_format not in FORMATS:
        raise ConfigError(f"audio_format is {audio_format!r}: it must be {' or '.join(FORMATS)}")
    locate()
    _claim(out, {"speakers": speakers, "utterances": utterances, "seed": seed, "format": audio_format})

    missing = [
        (speaker, number)
        for speaker in range(speakers)
        for number in range(utterances)
        if not (out / _path(speaker, number, audio_format)).is_file()
    ]
    metadata = out / METADATA_FILE
    if not missing and metadata.is_file():
        return metadata

    total = speakers * utterances
    with progress_bar("Synthetic voices", total, enabled=progress, done=total - len(missing)) as shown:
        for made in _make_all(out, seed, audio_format, missing, workers or os.cpu_count() or 1):
            shown.advance(made)
    write_text(metadata, _metadata(out, speakers, utterances, seed, audio_format))
    return metadata


def plan(seed: int, speaker: int, number: int, voice: Voice | None = None) -> UtterancePlan:
    """Plan utterance `number` of a speaker; pass `voice` to save drawing the voice of the speaker again."""
    rng = np.random.default_rng([seed, speaker, number, 3])
    today = (voice or draw_voice(seed, speaker)).in_session(rng)
    seconds = float(np.clip(_TYPICAL_SECONDS * np.exp(0.27 * rng.standard_normal()), *_SECONDS))
    return UtterancePlan(
        number=number,
        name=_name(speaker, number),
        text=draw_sentence(rng, words_per_minute=today.words_per_minute, seconds=seconds),
        voice=today,
        session=draw_session(rng),
    )


def make(engine: Espeak, seed: int, speaker: int, utterance: UtterancePlan) -> tuple[Samples, Samples, Samples]:
    """Return the clean speech, and the speech and the noise of its recording, float32 at SAMPLE_RATE_HZ.

    The sum of the last two is the recording.
    """
    rng = np.random.default_rng([seed, speaker, utterance.number, 4])
    clean, rate_hz = engine.speak(
        utterance.text,
        voice=utterance.voice.text(),
        accent=utterance.voice.accent,
        words_per_minute=round(utterance.voice.words_per_minute),
        seed=int(rng.integers(1, 2**31)),
    )
    clean = audio.resample(clean, rate_hz, SAMPLE_RATE_HZ)
    return clean, *record(clean, SAMPLE_RATE_HZ, utterance.session, rng)


def _claim(out: Path, asked: dict[str, int | str]) -> None:
    """Mark the folder as this corpus. Raises ConfigError if it holds anything else."""
    settings = {
        "synthetic": True,
        "generator": _GENERATOR,
        "engine": f"espeakng-loader {version('espeakng-loader')}",
        **asked,
    }
    marker = out / SETTINGS_FILE
    try:
        if out.exists() and not out.is_dir():
            raise StorageError(f"{out}: is a file; name a folder for the corpus")
        occupied = out.is_dir() and any(out.iterdir())
        written = marker.read_text(encoding="utf-8") if marker.is_file() else None
    except PermissionError as error:
        raise StorageError(f"{out}: cannot be read: {error.strerror}; choose another folder") from error
    if written is not None:
        try:
            found = json.loads(written)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{marker}: is not JSON; choose another folder, or empty this one") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{marker}: holds no settings; choose another folder, or empty this one")
        found = {"format": "flac"} | found  # the only format of earlier versions
        other = [key for key in settings if found.get(key) != settings[key]]
        if other:
            differences = ", ".join(f"{key} {found.get(key)} there, {settings[key]} asked for" for key in other)
            raise ConfigError(f"{out}: holds a different synthetic corpus ({differences}); choose another folder")
        return
    if occupied:
        raise ConfigError(f"{out}: is not empty and holds no synthetic corpus; choose a new or empty folder")
    write_text(marker, json.dumps(settings, indent=2) + "\n")


def _make_all(out: Path, seed: int, audio_format: str, missing: list[tuple[int, int]], workers: int) -> Iterator[int]:
    """Make the missing utterances, and yield the number made by each task."""
    tasks = [missing[first : first + _UTTERANCES_PER_TASK] for first in range(0, len(missing), _UTTERANCES_PER_TASK)]
    workers = min(workers, len(tasks))
    try:
        scratch = tempfile.TemporaryDirectory(prefix="xvectors-synth-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(f"no temporary folder can be made: {error.strerror or error}; set TMPDIR") from error
    with scratch as folder:
        if workers <= 1:
            engine = Espeak(Path(folder))
            for task in tasks:
                yield _make_task(engine, out, seed, audio_format, task)
            return
        # spawned, not forked: a forked child would inherit locks of the caller's threads
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
        try:
            with without_main_script():
                made = [pool.submit(_make_in_worker, Path(folder), out, seed, audio_format, task) for task in tasks]
            for future in as_completed(made):
                yield future.result()
        except BrokenProcessPool as error:
            raise XVectorsError(
                "a process that makes synthetic voices died, perhaps out of memory: use workers=1. Finished files are "
                "kept, and the same call continues from there"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C


@cache
def _worker_engine(scratch: Path) -> Espeak:
    return Espeak(scratch / str(os.getpid()))


def _make_in_worker(scratch: Path, out: Path, seed: int, audio_format: str, task: list[tuple[int, int]]) -> int:
    return _make_task(_worker_engine(scratch), out, seed, audio_format, task)


def _make_task(engine: Espeak, out: Path, seed: int, audio_format: str, task: list[tuple[int, int]]) -> int:
    for speaker, number in task:
        _, speech, noise = make(engine, seed, speaker, plan(seed, speaker, number))
        audio.write(out / _path(speaker, number, audio_format), speech + noise, SAMPLE_RATE_HZ, subtype="PCM_16")
    return len(task)


def _metadata(out: Path, speakers: int, utterances: int, seed: int, audio_format: str) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for speaker in range(speakers):
        voice = draw_voice(seed, speaker)
        for number in range(utterances):
            utterance = plan(seed, speaker, number, voice)
            path = _path(speaker, number, audio_format)
            duration_s = audio.probe(out / path).duration_s
            session = utterance.session
            table.writerow(
                [
                    path,
                    voice.speaker,
                    voice.gender,
                    voice.age,
                    utterance.name,
                    f"{duration_s:.3f}",
                    voice.accent,
                    f"{session.snr_db:.1f}",
                    f"{session.rt60_s:.2f}",
                    utterance.text,
                ]
            )
    return text.getvalue()


def _name(speaker: int, number: int) -> str:
    return f"{speaker_name(speaker)}-{number:03d}"


def _path(speaker: int, number: int, audio_format: str) -> str:
    return f"{speaker_name(speaker)}/{_name(speaker, number)}.{audio_format}"
