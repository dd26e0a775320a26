"""EER of systems on speakers that none of them has heard, by corpus and condition, by cosine as it is and centered.

`python benchmarks/unheard.py exp/starter/manifest.csv --data shared/data --corpora gcompris-voices --systems starter
exp/student/system` takes the speakers that the manifest of tools/make_starter.py holds out to calibrate on, from the
corpora of DATA, and whole corpora besides: up to 6 recordings of a speaker, the first 5 s of each. The conditions are
whole recordings; their middle 0.5 s; both sides over a made telephone line; and one side in a made mood. All pairs
within a corpus are trials. Centered embeddings have lost the mean over the corpus.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors import SpeakerEncoder, open_corpus
from xvectors.audio import Samples, read
from xvectors.augment.shifts import SHIFTS
from xvectors.metrics import eer

RATE_HZ, EACH, LONGEST_S, MIDDLE_S = 16_000, 6, 5.0, 0.5
DITHER = 3e-5
"""One bit of 16: without it, the runs of zeros in a short piece would be cut out, and leave too little."""
ONE_SIDE = "moods, one side"
Changed = Callable[[Samples, str], Samples]


def made(name: str) -> Changed:
    def change(wave: Samples, key: str) -> Samples:
        return SHIFTS[name](wave, RATE_HZ, np.random.default_rng([7, zlib.crc32(f"{name}{key}".encode())]))

    return change


def middle(wave: Samples, key: str) -> Samples:
    length = round(MIDDLE_S * RATE_HZ)
    piece = wave[max(0, (len(wave) - length) // 2) :][:length]
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(len(piece))
    return piece + np.float32(DITHER) * noise.astype(np.float32)


CONDITIONS: dict[str, Changed] = {
    "whole": lambda wave, key: wave,
    "0.5 s": middle,
    "landline": made("landline"),
    ONE_SIDE: made("moods"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="manifest.csv of tools/make_starter.py")
    parser.add_argument("--data", type=Path, required=True, help="folder with the corpora")
    parser.add_argument("--corpora", nargs="*", default=[], help="corpora of DATA to take whole")
    parser.add_argument("--systems", nargs="+", required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recordings = held_out(arguments.manifest, arguments.data) | {
        name: recordings_of(arguments.data / name, None) for name in arguments.corpora
    }
    waves = {name: [(speaker, changed(path, speaker)) for speaker, path in each] for name, each in recordings.items()}
    figures = {system: measure(SpeakerEncoder.from_pretrained(system), waves) for system in arguments.systems}
    print(f"{'condition':17}{'corpus':24}{'speakers':>9}" + "".join(f"{Path(system).name:>16}" for system in figures))
    for condition in CONDITIONS:
        for name, each in recordings.items():
            speakers = len({speaker for speaker, _ in each})
            shown = "".join("{:8.1f}{:6.1f} %".format(*figures[system][condition][name]) for system in figures)
            print(f"{condition:17}{name:24}{speakers:9}{shown}")
        means = [np.mean(list(figures[system][condition].values()), axis=0) for system in figures]
        print(f"{condition:17}{'mean':33}" + "".join("{:8.1f}{:6.1f} %".format(*each) for each in means))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def held_out(manifest: Path, data: Path) -> dict[str, list[tuple[str, Path]]]:
    """The recordings of the speakers that the manifest holds out, by corpus, those of synthetic voices apart."""
    speakers = defaultdict(set)
    with manifest.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "val" and (data / row["domain"]).is_dir():
                speakers[row["domain"]].add(row["speaker"].partition("/")[2])
    return {name: recordings_of(data / name, known) for name, known in speakers.items()}


def recordings_of(corpus: Path, speakers: set[str] | None) -> list[tuple[str, Path]]:
    """Speaker and path of the first recordings of each speaker, or of these speakers."""
    manifest, found = open_corpus(corpus), defaultdict(list)
    for index in range(len(manifest)):
        found[manifest.speakers[manifest.speaker_index[index]]].append(Path(manifest.full_path(index)))
    chosen = sorted(found) if speakers is None else sorted(speakers)
    return [(speaker, path) for speaker in chosen for path in sorted(found[speaker])[:EACH]]


def changed(path: Path, speaker: str) -> dict[str, Samples]:
    wave = read(path, sample_rate_hz=RATE_HZ)[0][: round(LONGEST_S * RATE_HZ)]
    return {name: change(wave, f"{path.name}{speaker}") for name, change in CONDITIONS.items()}


def measure(
    encoder: SpeakerEncoder, waves: dict[str, list[tuple[str, dict[str, Samples]]]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """EER in percent by condition and corpus, as it is and centered."""
    figures: dict[str, dict[str, tuple[float, float]]] = {condition: {} for condition in CONDITIONS}
    for name, each in waves.items():
        speakers = np.array([speaker for speaker, _ in each])
        embeddings = {
            condition: encoder.encode(
                [wave[condition] for _, wave in each],
                sample_rate_hz=RATE_HZ,
                trim_silence=None if condition == "0.5 s" else "energy",
            )
            for condition in CONDITIONS
        }
        for condition, changed_side in embeddings.items():
            other = embeddings["whole"] if condition == ONE_SIDE else changed_side
            pairs = (
                ~np.eye(len(each), dtype=bool) if condition == ONE_SIDE else np.triu(np.ones((len(each),) * 2), 1) > 0
            )
            figures[condition][name] = (
                eer_of(other, changed_side, speakers, pairs),
                eer_of(other - other.mean(axis=0), changed_side - changed_side.mean(axis=0), speakers, pairs),
            )
    return figures


def eer_of(
    left: NDArray[np.float32], right: NDArray[np.float32], speakers: NDArray[np.str_], pairs: NDArray[np.bool_]
) -> float:
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (left, right)]
    scores, target = units[0] @ units[1].T, speakers[:, None] == speakers[None]
    return 100 * float(eer(scores[pairs & target], scores[pairs & ~target]).eer)


if __name__ == "__main__":
    main()
