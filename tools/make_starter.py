"""Make the starter system: `python tools/make_starter.py --data shared/data`.

In: the real corpora below DATA and synthetic voices made here. Out: a system directory below WORK, and its slim form
(features, network in float16, back-end and calibration, and all of it as model.onnx, to run without torch) in
src/xvectors/system/starter, which the package ships. Where the features' code changed and the weights did not, `make
starter-onnx` writes model.onnx anew. Every tenth speaker with several real recordings is held out to calibrate on, and
as many other synthetic voices, every second recording of theirs as a telephone would carry it. With --held-out N every
Nth speaker of each corpus is kept for a test besides, and nothing is shipped: what the shipped system, which hears
them all, can be expected to do for speakers it has not heard. With
--calibrate-only the shipped network is kept, and back-end and calibration are learned anew, as a change in how
recordings are heard requires.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors.torch

from xvectors import SpeakerEncoder, export_onnx, load_recipe, open_corpus, train
from xvectors.audio import probe, read, resample, write
from xvectors.backends import all_pairs_scores
from xvectors.corpus.synth import synthesize
from xvectors.metrics import ROC, eer
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import kept_epoch, read_description, write_description, write_weights
from xvectors.training import EpochResult
from xvectors.training.calibrate import calibrate
from xvectors.training.data.corpus import prepare_corpus
from xvectors.trials import all_pairs
from xvectors.verification import verifier_of

SYNTHETIC = {"speakers": 80, "utterances": 10, "seed": 2026}
OTHER_SYNTHETIC = {"speakers": 13, "utterances": 20, "seed": 2027}
"""Voices that are never trained on, as many as real speakers: to calibrate on."""
SYNTHETIC_FOLDER, OTHER_SYNTHETIC_FOLDER = "synthetic", "synthetic-held-out"
BACKEND = "asnorm"
"""Not what held-out speakers choose, who are much like those trained on: PLDA wins there, and loses elsewhere."""
COLUMNS = ("path", "speaker", "gender", "age", "session", "split")
PIECE_S = 4.0
"""LibriSpeech's speakers have one recording each here; its pieces of this length are the trials."""
CALIBRATED_ON = 10
"""Every how manieth speaker with several real recordings is held out for the calibration."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with speechocean762/ and librispeech-251/")
    parser.add_argument("--work", type=Path, default=Path("exp/starter"), help="where to train")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--held-out", type=int, default=0, metavar="N", help="keep every Nth speaker out, and measure")
    parser.add_argument("--calibrate-only", action="store_true", help="keep the shipped network, and learn the rest")
    arguments = parser.parse_args()
    work = arguments.work
    synthesize(work / SYNTHETIC_FOLDER, **SYNTHETIC, progress=True)
    synthesize(work / OTHER_SYNTHETIC_FOLDER, **OTHER_SYNTHETIC, progress=True)
    corpora = [arguments.data / "speechocean762", arguments.data / "librispeech-251", work / SYNTHETIC_FOLDER]
    manifest = work / "manifest.csv"
    rows = [row for folder in corpora for row in rows_of(folder, arguments.held_out)]
    rows += [row | {"split": "val"} for row in rows_of(work / OTHER_SYNTHETIC_FOLDER, 0)]
    telephone(rows, work / "8khz")
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    hours = sum(probe(row["path"]).duration_s for row in rows) / 3600
    print(f"{len(rows)} recordings, {hours:.1f} h, {len({row['speaker'] for row in rows})} speakers")
    system = SystemFolder(work / "system")
    if arguments.calibrate_only:
        unpack(manifest, system)
    else:
        recipe = load_recipe("starter", arguments.settings)
        train(manifest, system.path, recipe, overwrite=True, on_epoch=say, calibrate=False, progress=True)
        halve(system)
    calibrate(system.path, backend=BACKEND)
    if arguments.held_out:
        print(json.dumps(measure(system.path, rows), indent=2))
    else:
        ship(system)


def say(result: EpochResult) -> None:
    print(result, flush=True)


def rows_of(folder: Path, held_out: int) -> list[dict[str, object]]:
    """The rows of a corpus for the common table; of a folder of single recordings, each is a speaker."""
    if not any(folder.glob("*.csv")):
        paths = sorted(folder.glob("*.flac"))
        rows = [{"path": path.resolve(), "speaker": f"{folder.name}/{path.stem.split('-')[0]}"} for path in paths]
    else:
        corpus = open_corpus(folder)
        rows = [
            {
                "path": corpus.full_path(row),
                "speaker": f"{folder.name}/{corpus.speakers[corpus.speaker_index[row]]}",
                "gender": {0: "m", 1: "f"}.get(int(corpus.gender[row]), ""),
                "age": "" if np.isnan(corpus.age[row]) else f"{corpus.age[row]:g}",
            }
            for row in range(len(corpus))
        ]
    speakers = sorted({str(row["speaker"]) for row in rows})
    split = dict.fromkeys(speakers, "")
    split |= dict.fromkeys(speakers[::held_out] if held_out else (), "test")
    if not folder.name.startswith(SYNTHETIC_FOLDER) and len(rows) > len(speakers):
        left = [speaker for speaker in speakers if not split[speaker]]
        split |= dict.fromkeys(left[::CALIBRATED_ON], "val")
    return [row | {"split": split[str(row["speaker"])]} for row in rows]


def telephone(rows: list[dict[str, object]], folder: Path) -> None:
    """Put 8 kHz copies below `folder` in the place of every second recording of each speaker to calibrate on."""
    seen: Counter[object] = Counter()
    for row in rows:
        if row["split"] == "val":
            seen[row["speaker"]] += 1
            if seen[row["speaker"]] % 2 == 0:
                out = folder / str(row["speaker"]) / f"{Path(str(row['path'])).stem}.wav"
                out.parent.mkdir(parents=True, exist_ok=True)
                write(out, resample(read(row["path"], sample_rate_hz=16_000)[0], 16_000, 8_000), 8_000)
                row["path"] = out.resolve()


def measure(system: Path, rows: list[dict[str, object]]) -> dict[str, object]:
    """EER in percent of the speakers kept out, by corpus and condition: all pairs, cosine and the system's back-end;
    and the bits that the calibration loses."""
    encoder = SpeakerEncoder.from_pretrained(system)
    verifier = verifier_of(SystemFolder(system))
    figures: dict[str, object] = {}
    for corpus in sorted({str(row["speaker"]).split("/")[0] for row in rows if row["split"] == "test"}):
        tested = [row for row in rows if row["split"] == "test" and str(row["speaker"]).startswith(f"{corpus}/")]
        waves = [(read(row["path"], sample_rate_hz=16_000)[0], str(row["speaker"])) for row in tested]
        if len({speaker for _, speaker in waves}) == len(waves):
            piece = round(PIECE_S * 16_000)
            waves = [(w[i : i + piece], s) for w, s in waves for i in range(0, len(w) - piece + 1, piece)]
        speakers = np.unique([speaker for _, speaker in waves], return_inverse=True)[1]
        for name, condition in CONDITIONS.items():
            conditioned = [condition(wave) for wave, _ in waves]
            embeddings = encoder.encode(conditioned)
            seconds = np.array([len(wave) / 16_000 for wave in conditioned])
            trials = all_pairs(speakers)
            scores = verifier.score(embeddings, trials)
            llrs = verifier.llrs(scores, seconds[trials.enroll], seconds[trials.test])
            roc = ROC.from_scores(llrs[trials.target], llrs[~trials.target])
            figures[f"{corpus}, {name}"] = {
                "cosine EER %": round(100 * eer(*all_pairs_scores(embeddings, speakers)).eer, 2),
                f"{verifier.name} EER %": round(100 * roc.eer().eer, 2),
                "calibration loss, bits": round(roc.cllr() - roc.min_cllr(), 3),
            }
        figures[f"{corpus}, speakers"] = int(speakers.max()) + 1
    return figures


def narrow(wave: np.ndarray) -> np.ndarray:
    return resample(resample(wave, 16_000, 8_000), 8_000, 16_000)


def middle(wave: np.ndarray, duration_s: float) -> np.ndarray:
    samples = round(duration_s * 16_000)
    return wave[max(0, (len(wave) - samples) // 2) :][:samples]


CONDITIONS = {
    "whole": lambda wave: wave,
    "8 kHz": narrow,
    "1 s": lambda wave: middle(wave, 1.0),
    "0.5 s, 8 kHz": lambda wave: narrow(middle(wave, 0.5)),
}


def halve(folder: SystemFolder) -> None:
    """Round the weights to float16, the form that is shipped and therefore the one to calibrate."""
    weights = safetensors.torch.load_file(folder.weights)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    assert all(value.isfinite().all() for value in halves.values()), "a weight that float16 cannot hold"
    write_weights(folder, halves, kept_epoch(folder))


def unpack(manifest: Path, folder: SystemFolder) -> None:
    """The shipped system in `folder`, with the corpus that it was trained on."""
    shipped = find_system("starter")
    folder.path.mkdir(parents=True, exist_ok=True)
    for name in ("description", "speakers", "weights"):
        shutil.copyfile(getattr(shipped, name), getattr(folder, name))
    encoder = SpeakerEncoder.from_pretrained(shipped.path)
    corpus, _ = prepare_corpus(manifest, encoder.recipe, min_samples=encoder.engine.samples_needed)
    assert corpus.speakers == encoder.speakers, "this is not the corpus that the starter was trained on"
    corpus.manifest.write_csv(folder.corpus)


def ship(folder: SystemFolder) -> None:
    """Copy the system into the package: no corpus, no training state."""
    slim = SystemFolder(Path(__file__).resolve().parents[1] / "src" / "xvectors" / "system" / "starter")
    description = read_description(folder)
    write_description(slim, description.recipe, description.speakers)
    for name in ("weights", "backend", "calibration"):
        shutil.copyfile(getattr(folder, name), getattr(slim, name))
    export_onnx(slim.path, slim.exported)
    print(
        f"{slim.path}: {slim.weights.stat().st_size / 1e6:.2f} MB of weights, "
        f"{slim.exported.stat().st_size / 1e6:.2f} MB exported"
    )


if __name__ == "__main__":
    main()
