"""Make the starter system: `python tools/make_starter.py --data shared/data`.

In: the real corpora below DATA and synthetic voices made here. Out: a system directory below WORK, and its slim form
(features, network in float16, back-end and calibration, and all of it as model.onnx, to run without torch) in
src/xvectors/system/starter, which the package ships. Where the features' code changed and the weights did not, `make
starter-onnx` writes model.onnx anew. Every tenth speaker with several real recordings is held out to calibrate on, and
as many other synthetic voices, every second recording of theirs as a telephone would carry it; speakers of four other
corpora are added, with trials within each corpus. With --held-out N every Nth speaker of each corpus is kept for a test
besides, and nothing is shipped: what the shipped system, which hears them all, can be expected to do for speakers it
has not heard. With --calibrate-only the shipped network is kept, and back-end and calibration are learned anew, as a
change in how recordings are heard requires.

With --teacher SYSTEM the network learns the embeddings of that system (recipe distill) from the same recordings,
fewer synthetic voices, and the speakers of the four other corpora that are not calibrated on. It begins with the
weights of --start, such as the system that --train-only makes without a teacher, and at the end --keep of these are
averaged in: the student is better in moods and by telephone, the start on half a second, and the mean keeps most of
both. With --train-only the trained network, rounded to float16, stays below WORK, and is neither calibrated nor
shipped. To calibrate such a network anew, give --teacher with --calibrate-only.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from make_known_calibrations import CORPORA, write_lists

from xvectors import SpeakerEncoder, export_onnx, load_recipe, open_corpus, train
from xvectors.audio import probe, read, resample, write
from xvectors.backends import all_pairs_scores
from xvectors.corpus import TEST, VAL
from xvectors.corpus.synth import synthesize
from xvectors.metrics import ROC, eer
from xvectors.system import SystemFolder, find_system
from xvectors.system.serialization import kept_epoch, read_description, write_description, write_weights
from xvectors.training import EpochResult, choose_recipe
from xvectors.training.calibrate import calibrate
from xvectors.training.data.corpus import prepare_corpus
from xvectors.training.embedding_map import fit_embedding_map
from xvectors.trials import all_pairs
from xvectors.verification import verifier_of

SYNTHETIC = {"speakers": 80, "utterances": 10, "seed": 2026}
TEACHER_SYNTHETIC = {"speakers": 40, "utterances": 5, "seed": 2026}
"""With a teacher, which makes many voices of each."""
TEACHER_SETTINGS = (
    *("data.train_test_prop=1.0", "data.held_out_prop=0.0", "data.train_val_prop=1.0", "training.minutes=42"),
    *("distillation.voices=6", "distillation.moods=2", "distillation.recordings_per_copy=5"),
    *("distillation.cosine_weight=0", "distillation.label_weight=1", "data.chunk_max_s=2.2"),
    *("training.learning_rate=4e-3", "training.backbone_rate=0.4", "training.head_only_share=0.06"),
    *("training.warm_up=0.15", "training.embedding_map=true", "training.decoded_mb=4096"),
)
OTHER_SYNTHETIC = {"speakers": 13, "utterances": 20, "seed": 2027}
"""Voices that are never trained on, as many as real speakers: to calibrate on."""
SYNTHETIC_FOLDER, OTHER_SYNTHETIC_FOLDER = "synthetic", "synthetic-held-out"
BACKEND = "cosine_centered"
"""With one of six corpora left out of the calibration in turn, it has the least Cllr there, as recorded and under made
shifts. PLDA wins on held-out speakers of the training corpora, and loses elsewhere."""
MAP = "embedding_map."
COLUMNS = ("path", "speaker", "gender", "age", "session", "split", "domain")
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
    parser.add_argument("--teacher", help="learn the embeddings of this system, from more recordings")
    parser.add_argument("--start", help="with --teacher, the system to begin with")
    parser.add_argument("--keep", type=float, default=0.3, metavar="SHARE", help="share of the start in the weights")
    parser.add_argument("--train-only", action="store_true", help="neither calibrate nor ship")
    parser.add_argument("--calibrate-only", action="store_true", help="keep the shipped network, and learn the rest")
    arguments = parser.parse_args()
    if arguments.teacher and not (arguments.start or arguments.calibrate_only):
        parser.error("--teacher needs --start, the system to begin with; --train-only without a teacher makes one")
    work = arguments.work
    synthesize(work / SYNTHETIC_FOLDER, **(TEACHER_SYNTHETIC if arguments.teacher else SYNTHETIC), progress=True)
    synthesize(work / OTHER_SYNTHETIC_FOLDER, **OTHER_SYNTHETIC, progress=True)
    corpora = [arguments.data / "speechocean762", arguments.data / "librispeech-251", work / SYNTHETIC_FOLDER]
    manifest = work / "manifest.csv"
    rows = [row for folder in corpora for row in rows_of(folder, arguments.held_out)]
    rows += [row | {"split": "val"} for row in rows_of(work / OTHER_SYNTHETIC_FOLDER, 0)]
    telephone(rows, work / "8khz")
    rows += others(arguments.data, work / "others")
    if arguments.teacher:
        rows += unlisted(arguments.data, work / "others")
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
        if arguments.teacher:
            recipe = choose_recipe(
                system.path, overrides=[*TEACHER_SETTINGS, *arguments.settings], teacher=arguments.teacher
            )
        train(
            manifest,
            system.path,
            recipe,
            start=arguments.start,
            overwrite=True,
            on_epoch=say,
            calibrate=False,
            progress=True,
        )
        halve(system)
        if arguments.teacher and arguments.keep:
            average(system, find_system(arguments.start), arguments.keep)
        forget_path(system)
    if arguments.train_only:
        return
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
    return [row | {"split": split[str(row["speaker"])], "domain": folder.name} for row in rows]


def others(data: Path, work: Path) -> list[dict[str, object]]:
    """Rows of other corpora to calibrate on, some speakers of each, as for published models."""
    work.mkdir(parents=True, exist_ok=True)
    with write_lists(data, work).open(encoding="utf-8", newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["domain"] != "speechocean762"]
    return [{key: row[key] for key in ("path", "speaker", "gender", "domain")} | {"split": "val"} for row in listed]


def unlisted(data: Path, work: Path) -> list[dict[str, object]]:
    """Rows of the other corpora to train on: of speakers that are neither calibrated on nor measured on."""
    listed = set()
    for name in ("learn", "measure"):
        with (work / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            listed |= {row["speaker"] for row in csv.DictReader(file)}
    found = [row for name in CORPORA if name != "speechocean762" for row in rows_of(data / name, 0)]
    return [row | {"split": ""} for row in found if row["speaker"] not in listed]


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
            measures = np.stack([encoder.listen(wave).condition for wave in conditioned])
            llrs = verifier.trial_llrs(scores, trials, embeddings, seconds, measures)
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


def forget_path(folder: SystemFolder) -> None:
    """Name the teacher instead of its folder in the description."""
    description = read_description(folder)
    distillation = description.recipe.distillation
    if distillation.teacher:
        named = replace(distillation, teacher=Path(distillation.teacher).name)
        write_description(folder, replace(description.recipe, distillation=named), description.speakers)


def halve(folder: SystemFolder) -> None:
    """Round the weights to float16, the form that is shipped and therefore the one to calibrate.

    The class layer, which a margin loss does not train, becomes zero, so that it takes no room in the wheel.
    """
    weights = safetensors.torch.load_file(folder.weights)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    for key in ("classifier.weight", "classifier.bias"):
        halves[key].zero_()
    assert all(value.isfinite().all() for value in halves.values()), "a weight that float16 cannot hold"
    write_weights(folder, halves, kept_epoch(folder))


def average(folder: SystemFolder, start: SystemFolder, share: float) -> None:
    """Average the network with the one it began with, and learn the embedding map of the mean.

    The map is learned from the middles of training recordings.
    """
    weights, before = (safetensors.torch.load_file(each.weights) for each in (folder, start))
    inner = [key for key in weights if not key.startswith(("classifier.", MAP))]
    for key in inner:
        if weights[key].is_floating_point():
            weights[key] = share * before[key].float() + (1 - share) * weights[key].float()
    dim = len(weights[f"{MAP}mean"])
    weights |= {f"{MAP}mean": torch.zeros(dim), f"{MAP}matrix": torch.eye(dim)}
    write_weights(folder, weights, kept_epoch(folder))
    halve(folder)
    paths, speakers = learned_from(folder)
    encoder = SpeakerEncoder.from_pretrained(folder.path)
    blocks = [
        encoder.encode([middle(read(path, sample_rate_hz=16_000)[0], 4.0) for path in paths[at : at + 512]])
        for at in range(0, len(paths), 512)
    ]
    fitted = fit_embedding_map(np.concatenate(blocks), np.unique(speakers, return_inverse=True)[1])
    weights |= {f"{MAP}{name}": value.float() for name, value in fitted.state_dict().items()}
    write_weights(folder, weights, kept_epoch(folder))
    halve(folder)


def learned_from(folder: SystemFolder, most: int = 6) -> tuple[list[Path], list[str]]:
    """Paths and speakers of at most so many training recordings of each speaker.

    With copies in moods, the map takes more of the moods away, and more of what tells speakers apart in half a second.
    """
    corpus, found = open_corpus(folder.corpus), Counter[str]()
    paths, speakers = list[Path](), list[str]()
    for at in np.random.default_rng(0).permutation(len(corpus)):
        speaker = corpus.speakers[corpus.speaker_index[at]]
        if corpus.split[at] not in (VAL, TEST) and found[speaker] < most:
            found[speaker] += 1
            paths.append(Path(corpus.full_path(at)))
            speakers.append(speaker)
    return paths, speakers


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
