"""Published corpora in miniature: archives of the same names and layouts, with noises of a fraction of a second."""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from support.sounds import encoded, noise

Files = dict[str, bytes]
"""Contents by path in an archive."""

VOX1_META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10002\tA.R._Rahman\tm\tIndia\tdev\n"
    "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
    "id10271\tEd_Westwick\tm\tUK\ttest\n"
)
VOX2_META = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,f ,test \n"
SPEAKERS_TXT = (
    ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
    "14   | F | train-clean-360  | 25.03 | Kristin LeMoine\n"
    "60   | M | train-clean-100  | 20.18 | |CBW|Simon\n"
    "84   | F | dev-clean        |  8.02 | Christie Nowak\n"
)


@functools.cache
def sound(seed: int, kind: str = "WAV") -> bytes:
    samples = noise(0.2, seed=seed)
    return encoded(samples, kind, {"MP3": "MPEG_LAYER_III"}.get(kind, "PCM_16"))


def sounds(paths: list[str], kind: str = "WAV") -> Files:
    return {path: sound(seed, kind) for seed, path in enumerate(paths)}


def vox1_dev() -> Files:
    return sounds(
        [f"wav/{s}/{v}/0000{n}.wav" for s in ("id10001", "id10002") for v in ("vidA", "vidB") for n in (1, 2)]
    )


def vox1_test() -> Files:
    return sounds(
        [f"wav/{s}/{v}/0000{n}.wav" for s in ("id10270", "id10271") for v in ("vidC", "vidD") for n in (1, 2)]
    )


def cn_celeb1() -> Files:
    data = [
        f"CN-Celeb_flac/data/id0000{s}/{g}-01-00{n}.flac" for s in (0, 1) for g in ("drama", "vlog") for n in (1, 2)
    ]
    data += [f"CN-Celeb_flac/data/id0080{s}/singing-01-00{n}.flac" for s in (0, 1) for n in (1, 2)]
    enroll = [f"id0080{s}-enroll" for s in (0, 1)]
    test = [f"id0080{s}-singing-02-00{n}" for s in (0, 1) for n in (1, 2)]
    files = sounds(
        [*data, *(f"CN-Celeb_flac/eval/{'enroll' if x in enroll else 'test'}/{x}.flac" for x in enroll + test)], "FLAC"
    )
    trials = [f"{e} test/{t}.wav {int(e[:7] == t[:7])}\n" for e in enroll for t in test]
    return files | {
        "CN-Celeb_flac/eval/lists/trials.lst": "".join(trials).encode(),
        "CN-Celeb_flac/dev/dev.lst": b"id00000\nid00001\n",
    }


def cn_celeb2() -> Files:
    return sounds([f"CN-Celeb2_flac/data/id10000/interview-0{s}-001.flac" for s in (1, 2)], "FLAC")


def librispeech(subset: str, names: list[str]) -> Files:
    paths = [f"LibriSpeech/{subset}/{'/'.join(name.split('-')[:2])}/{name}.flac" for name in names]
    return {"LibriSpeech/SPEAKERS.TXT": SPEAKERS_TXT.encode()} | sounds(paths, "FLAC")


def common_voice(last_age: str = "") -> Files:
    top = "cv-corpus-17.0-2024-03-15/sw"
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\n"
    rows = [
        f'{client}\tcommon_voice_sw_{n}.mp3\t"Habari {n}\t2\t0\t{age}\t{gender}\t\tsw\n'
        for n, (client, age, gender) in enumerate(
            [
                ("aa", "twenties", "female_feminine"),
                ("aa", "twenties", "female_feminine"),
                ("bb", "", ""),
                ("bb", last_age, ""),
            ]
        )
    ]
    gone = "cc\tcommon_voice_sw_9.mp3\tHapana\t2\t0\t\tmale_masculine\t\tsw\n"
    tables = {"validated": [*rows, gone], "train": rows[:1], "dev": [], "test": rows[2:3]}
    files = {f"{top}/{name}.tsv": (header + "".join(lines)).encode() for name, lines in tables.items()}
    durations = "clip\tduration[ms]\n" + "".join(f"common_voice_sw_{n}.mp3\t{200 + n}\n" for n in range(4))
    clips = sounds([f"{top}/clips/common_voice_sw_{n}.mp3" for n in range(4)], "MP3")
    return files | clips | {f"{top}/clip_durations.tsv": durations.encode()}


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], compression: str = "gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def in_parts(folder: Path, names: list[str], content: bytes) -> None:
    """Write the content as `split` does, in parts of one size but for the last."""
    size = -(-len(content) // len(names))
    for number, name in enumerate(names):
        (folder / name).write_bytes(content[number * size : (number + 1) * size])


def unpacked(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
