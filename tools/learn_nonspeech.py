"""Learn what tells speech from other sounds: the coefficients of xvectors.audio.nonspeech, and what they are worth.

    python tools/learn_nonspeech.py DATA WORK [--write]

DATA holds folders of speech, one for each corpus; the other sounds are made by tests/support/nonspeech.py. The
measurements are kept in WORK. The table printed gives the share of recordings refused, with each corpus and each kind
of sound left out of the learning in turn; --write puts the coefficients learned from all of them into
src/xvectors/audio/nonspeech.npz.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from support import nonspeech, voices  # noqa: E402
from xvectors import audio  # noqa: E402
from xvectors.audio.activity import speech_mask, speech_s  # noqa: E402
from xvectors.audio.nonspeech import ANALYSIS_HZ, MODEL, SPEECH_LOG_ODDS, STRETCH_S, expanded, features  # noqa: E402
from xvectors.audio.quality import MIN_SPEECH_LIKE_SHARE  # noqa: E402

RATE = nonspeech.RATE
MIN_S = 0.4
PULL = 3.0
"""Of the coefficients towards zero, in recordings."""
MAX_S = 10.0
VARIANTS = 2
"""Of a recording of speech, drawn by chance, besides itself."""

Row = tuple[str, str, str, np.ndarray]  # group, condition, recording, measurements


def measured(wave: np.ndarray) -> Iterator[np.ndarray]:
    slow = audio.resample(wave.astype(np.float32), RATE, ANALYSIS_HZ)
    size = round(STRETCH_S * ANALYSIS_HZ)
    for start in range(0, len(slow), size):
        found = features(slow[start : start + size])
        if found is not None:
            yield found


def conditions(wave: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """The recording as it is, and in VARIANTS of eight other ways."""
    yield "whole", wave
    drawn = set(rng.choice(8, VARIANTS, replace=False).tolist())
    for number, seconds in enumerate((0.5, 1.0, 2.0)):
        if number in drawn and len(wave) > seconds * RATE:
            mask = np.repeat(speech_mask(wave, RATE), RATE // 100)
            start = int(rng.choice(np.flatnonzero(mask))) if mask.any() else 0
            start = min(start, len(wave) - round(seconds * RATE))
            yield f"{seconds:g} s", wave[start : start + round(seconds * RATE)]
    if 3 in drawn:
        yield "noise, 10 dB", _mixed(wave, rng.standard_normal(len(wave)), 10)
    for number, snr_db in ((4, 10), (5, 5)):
        if number in drawn:
            kind = str(rng.choice(["plucked", "piano", "organ", "bowed", "flute", "brass", "bells", "drums"]))
            sound = nonspeech.sound(kind, int(rng.integers(1 << 30)), max(2.0, len(wave) / RATE))[: len(wave)]
            yield f"music, {snr_db} dB", _mixed(wave, sound, snr_db)
    if 6 in drawn:
        yield "telephone", nonspeech.shaped(wave, lambda f: ((f > 300) & (f < 3400)) * 1.0)
    if 7 in drawn:
        kind, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"))[rng.integers(2)]
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, format=kind, subtype=subtype)
        file.seek(0)
        yield kind, soundfile.read(file, dtype="float32")[0]


def _mixed(wave: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    mask = np.repeat(speech_mask(wave, RATE), RATE // 100)
    power = np.mean(np.square(wave[: len(mask)][mask])) if mask.any() else np.mean(np.square(wave))
    other = np.pad(other, (0, max(0, len(wave) - len(other))))
    return wave + other * np.sqrt(power / max(1e-12, float(np.mean(np.square(other)))) * 10 ** (-snr_db / 10))


def of_file(job: tuple[str, str]) -> list[Row]:
    group, path = job
    rng = np.random.default_rng([len(path), *Path(path).name.encode()])
    wave = audio.read(path, sample_rate_hz=RATE, duration_s=MAX_S)[0]
    return _rows(group, path, conditions(wave, rng))


def of_sound(job: tuple[str, str]) -> list[Row]:
    kind, number = job
    rng = np.random.default_rng([int(number), 7])
    seconds = float(rng.choice([0.5, 1, 2, 5, 10]))
    wave = nonspeech.sound(kind, int(number), max(3.0, seconds))[: round(seconds * RATE)]
    if rng.random() < 0.2:
        wave = nonspeech.shaped(wave, lambda f: ((f > 300) & (f < 3400)) * 1.0)
    elif rng.random() < 0.2:
        wave = wave + 0.03 * rng.standard_normal(len(wave)) * np.std(wave)
    return _rows("no: " + kind, number, [(f"{seconds:g} s", wave)])


def of_voices(job: tuple[str, str]) -> list[Row]:
    seed = int(job[1])
    rows = []
    for number, (speech, noise) in enumerate(voices.spoken(seed, 20)):
        rng = np.random.default_rng([seed, number])
        rows += _rows("synthetic voices", f"{seed}-{number}", conditions(voices.mixed(speech, noise, 25), rng))
    return rows


def _rows(
    group: str, name: str, variants: Iterator[tuple[str, np.ndarray]] | list[tuple[str, np.ndarray]]
) -> list[Row]:
    return [
        (group, condition, f"{name}|{condition}", values)
        for condition, wave in variants
        if speech_s(wave, RATE) >= MIN_S  # others are turned away as they are
        for values in measured(wave)
    ]


def run(job: tuple[str, tuple[str, str]]) -> list[Row]:
    return {"file": of_file, "sound": of_sound, "voices": of_voices}[job[0]](job[1])


def collect(data: Path, files: int, sounds: int) -> dict[str, np.ndarray]:
    jobs = [("sound", (kind, str(n))) for kind in nonspeech.KINDS for n in range(sounds)]
    jobs += [("voices", ("", str(seed))) for seed in range(1)]
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        found = sorted(p for p in folder.rglob("*") if p.suffix in {".flac", ".mp3", ".ogg", ".opus", ".wav"})
        jobs += [("file", (folder.name, str(path))) for path in found[:: max(1, len(found) // files)]]
    with multiprocessing.Pool(3) as pool:
        rows = [row for part in pool.imap_unordered(run, jobs, chunksize=4) for row in part]
    rows.sort(key=lambda row: row[:3])
    return {
        "group": np.array([row[0] for row in rows]),
        "condition": np.array([row[1] for row in rows]),
        "recording": np.array([f"{row[0]}|{row[2]}" for row in rows]),
        "values": np.stack([row[3] for row in rows]),
    }


def learn(values: np.ndarray, speech: np.ndarray, group: np.ndarray) -> dict[str, np.ndarray]:
    """Logistic regression by Newton's method; groups count alike within speech and within the rest, by square root."""
    mean, std = values.mean(axis=0), values.std(axis=0)
    x = expanded(values, mean, std)
    _, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(counts[index])
    for side in (speech, ~speech):
        weight[side] *= 0.5 * len(weight) / weight[side].sum()
    w = np.zeros(x.shape[1])
    pull = np.full(len(w), PULL)
    pull[-1] = 0.0
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (weight * (p - speech)) + pull * w
        hessian = (x * (weight * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ x + np.diag(pull)
        w = w - np.linalg.solve(hessian, gradient)
    return {"mean": mean, "std": std, "weights": w}


def refused(rows: dict[str, np.ndarray], log_odds: np.ndarray) -> dict[str, bool]:
    """Whether each recording is no speech."""
    found: dict[str, list[float]] = {}
    for name, value in zip(rows["recording"].tolist(), log_odds.tolist(), strict=True):
        found.setdefault(name, []).append(value)
    return {name: np.mean(np.array(odds) >= SPEECH_LOG_ODDS) < MIN_SPEECH_LIKE_SHARE for name, odds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--files", type=int, default=400, help="of a corpus, evenly spread")
    parser.add_argument("--sounds", type=int, default=250, help="of a kind")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    cache = arguments.work / "measurements.npz"
    if not cache.exists():
        arguments.work.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **collect(arguments.data, arguments.files, arguments.sounds))
    rows = dict(np.load(cache))
    speech = ~np.char.startswith(rows["group"], "no: ")
    model = learn(rows["values"], speech, rows["group"])

    def odds(model: dict[str, np.ndarray], where: np.ndarray) -> np.ndarray:
        return expanded(rows["values"][where], model["mean"], model["std"]) @ model["weights"]

    within = odds(model, np.ones(len(speech), dtype=bool))
    without = np.empty(len(speech))
    for group in np.unique(rows["group"]):
        out = rows["group"] == group
        without[out] = odds(learn(rows["values"][~out], speech[~out], rows["group"][~out]), out)
    print(f"refused where the log odds are below {SPEECH_LOG_ODDS}: recordings, learned from; left out of the learning")
    first, second = refused(rows, within), refused(rows, without)
    for key in ("group", "condition"):
        for side in (speech, ~speech):
            for name in np.unique(rows[key][side]):
                names = np.unique(rows["recording"][side & (rows[key] == name)]).tolist()
                a, b = (sum(part[n] for n in names) / len(names) for part in (first, second))
                print(f"| {name} | {len(names)} | {a:.2%} | {b:.2%} |")
    if arguments.write:
        np.savez(MODEL, **{name: values.astype(np.float64) for name, values in model.items()})


if __name__ == "__main__":
    main()
