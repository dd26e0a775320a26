"""The labeled recordings and simulated conversations on which diarization is measured."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors import open_corpus
from xvectors.audio.recording import OpenRecording, open_recording
from xvectors.diarization import SpeakerRange, Turn, conversations, read_rttm, read_uem

RATE_HZ = 16_000


@dataclass(frozen=True)
class Labeled:
    """A recording with its turns and the regions that are scored."""

    name: str
    sound: OpenRecording
    turns: list[Turn]
    regions_s: NDArray[np.float64]


def excerpts(folder: Path) -> list[Labeled]:
    found = []
    for path in sorted((folder / "audio").iterdir()):
        (turns,) = read_rttm(folder / "rttm" / f"{path.stem}.rttm").turns.values()
        (regions,) = read_uem(folder / "uem" / f"{path.stem}.uem").values()
        found.append(Labeled(path.stem, open_recording(path, waveform_rate_hz=RATE_HZ), turns, regions))
    return found


def simulated(corpus: Path, seeds: list[int], number: int) -> list[Labeled]:
    manifest = open_corpus(corpus)
    return [
        Labeled(
            f"{seed}/{made.name}",
            open_recording(made.samples, made.name, waveform_rate_hz=RATE_HZ),
            made.turns,
            np.array([[0.0, len(made.samples) / RATE_HZ]]),
        )
        for seed in seeds
        for made in conversations(manifest, number, SpeakerRange(2, 8), sample_rate_hz=RATE_HZ, seed=seed)
    ]


def options_of_sets(description: str) -> argparse.ArgumentParser:
    """The systems and the recordings to measure them on."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("systems", nargs="+", help="system directories, or starter")
    options.add_argument("--excerpts", type=Path, help="a folder with audio/, rttm/ and uem/")
    options.add_argument("--corpus", type=Path, help="recordings of single speakers to simulate conversations from")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--number", type=int, default=7, help="conversations of a seed")
    return options
