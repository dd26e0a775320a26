"""Which folders are the speakers': published layouts, wrapper folders that are asked about, and trees left in peace."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from support.commands import run
from xvectors.corpus import Manifest, open_corpus, scan
from xvectors.errors import ManifestError


def tree(folder: Path, *paths: str) -> Path:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"RIFF")
    return folder


def speakers(folder: Path, **options: int) -> tuple[str, ...]:
    return open_corpus(folder, **options).speakers


LAYOUTS = {
    "LibriSpeech": (
        [
            "train-clean-100/103/1240/103-1240-0000.flac",
            "train-clean-100/103/1241/103-1241-0007.flac",
            "dev-clean/84/121123/84-121123-0001.flac",
        ],
        ("103", "84"),
        ["84/121123", "103/1240", "103/1241"],
    ),
    "Multilingual LibriSpeech": (
        ["train/audio/1234/9876/1234_9876_000001.flac", "dev/audio/55/77/55_77_000002.flac"],
        ("1234", "55"),
        ["55/77", "1234/9876"],
    ),
    "VoxCeleb": (
        ["dev/wav/id10001/1zcIwhmdeo4/00001.wav", "test/wav/id10270/5r0dWxy17C8/00001.wav"],
        ("id10001", "id10270"),
        ["id10001/1zcIwhmdeo4", "id10270/5r0dWxy17C8"],
    ),
    "VoxCeleb 2": (["dev/aac/id00012/21Uxsk56VDQ/00001.m4a"], ("id00012",), ["id00012/21Uxsk56VDQ"]),
    "CN-Celeb": (["data/id00001/singing-01-002.flac"], ("id00001",), [None]),
    "TIMIT": (
        ["TRAIN/DR1/FCJF0/SA1.WAV", "TRAIN/DR2/MABC1/SX7.WAV", "TEST/DR1/FAKS0/SA1.WAV"],
        ("FAKS0", "FCJF0", "MABC1"),
        [None, None, None],
    ),
    "VCTK": (["wav48/p225/p225_001.wav", "wav48/s5/s5_002.wav"], ("p225", "s5"), [None, None]),
    "VCTK, trimmed": (["wav48_silence_trimmed/p226/p226_001_mic1.flac"], ("p226",), [None]),
    "AISHELL": (
        ["wav/train/S0002/BAC009S0002W0122.wav", "wav/test/S0764/BAC009S0764W0121.wav"],
        ("S0002", "S0764"),
        [None, None],
    ),
    "AISHELL-3": (["train/wav/SSB0005/SSB00050001.wav"], ("SSB0005",), [None]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_are_recognized_from_the_top(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, expected, sessions = LAYOUTS[name]
    manifest = open_corpus(tree(tmp_path, *paths))
    assert manifest.speakers == expected
    assert [manifest.row(row).session for row in range(len(manifest))] == sessions
    assert not caplog.records


@pytest.mark.parametrize("below", ["train-clean-100", "train/audio", "dev/wav", "data", "TRAIN/DR1", "wav48"])
def test_published_layouts_are_the_same_from_their_speakers_on(below: str, tmp_path: Path) -> None:
    for paths, _, _ in LAYOUTS.values():
        tree(tmp_path, *(path for path in paths if path.startswith(f"{below}/")))
    of_layout = open_corpus(tmp_path / below)
    assert {path.split("/")[0] for path in of_layout.path} == set(of_layout.speakers)


def test_what_does_not_fit_a_recognized_layout_is_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, *(f"dev/wav/id{n:05d}/v/1.wav" for n in range(40)), "dev/wav/stray.wav")
    assert len(speakers(tmp_path)) == 40
    assert "1 recording lies in no speaker's folder and is left out, such as dev/wav/stray.wav" in caplog.text


@pytest.mark.parametrize(
    ("paths", "level", "found"),
    [
        (["train/ann/1.wav", "test/bob/1.wav"], 2, ("ann", "bob")),
        (["Female/ann/a.wav", "Male/bob/b.wav"], 2, ("ann", "bob")),
        (["train-clean-5/wav/ann/1.wav", "test/wav/bob/2.wav"], 3, ("ann", "bob")),
    ],
)
def test_folders_named_like_parts_of_a_corpus_are_asked_about(
    paths: list[str], level: int, found: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, *paths)
    with pytest.raises(
        ManifestError, match=rf"do the speakers lie .* deeper\? .*--speaker-level {level} \(such as (ann|bob)\)"
    ):
        open_corpus(tmp_path)
    assert speakers(tmp_path, speaker_level=level) == found
    assert len(speakers(tmp_path, speaker_level=1)) == 2
    assert not caplog.records


@pytest.mark.parametrize(
    "paths",
    [
        [f"{part}/{name}/{n}.wav" for part in ("north", "south") for name in "abcdefgh" for n in range(3)],
        [f"north/n{name}x/{n}.wav" for name in ("ann", "bob") for n in range(3)],
        [f"my-data/audio/{name}/{n}.wav" for name in ("ann", "bob") for n in range(3)],
        [f"clinic{c}/{name}/{n}.wav" for c in "AB" for name in ("ann", "bob", "cem", "dan") for n in range(3)],
        [f"c{c}/p{c}{name}x/p{c}{name}x_{n}.wav" for c in range(12) for name in "abc" for n in range(2)],
    ],
    ids=["names repeated", "one wrapper", "two wrappers", "few wrappers", "files named after the second folder"],
)
def test_trees_that_leave_it_open_are_asked_about(
    paths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, *paths)
    assert open_corpus(tmp_path).speakers == tuple(sorted({path.split("/")[0] for path in paths}))
    level = 2 + ("my-data" in paths[0])
    assert f"deeper? Then say --speaker-level {level} (such as " in caplog.text
    caplog.clear()
    for said in (1, level):
        assert set(speakers(tmp_path, speaker_level=said)) == {path.split("/")[said - 1] for path in paths}
    assert not caplog.records


@pytest.mark.parametrize(
    "paths",
    [
        ["ann/day1/1.wav", "ann/day2/1.wav", "bob/day1/1.wav", "bob/day3/1.wav"],
        [f"ann/{day}/1.wav" for day in ("2024-01-01", "2024-02-03", "20240501")],
        [f"{who}/{where}/{n}.wav" for who in ("ann", "bob") for where in ("kitchen", "car", "office") for n in "12"],
        [f"{who}/{where}/{where}_{n}.wav" for who in "abcdefghijkl" for where in ("kitchen", "car") for n in "12"],
        [f"{who}/{who}_{n}/1.wav" for who in ("ann", "bob") for n in ("x", "y", "z", "w")],
        [f"{who}/{n:03d}/1.wav" for who in ("ann", "bob") for n in range(20)],
        [f"{who}/wav/{n}.wav" for who in ("ann-2009", "bob-2010") for n in range(5)],
        ["ann/train/1.wav", "ann/test/1.wav", "bob/train/1.wav"],
        [f"{who}/5r0dWxy17C{n}/1.wav" for who in ("ann", "bob") for n in range(5)],
        [f"s{who}/{who * 7919 % 100_003}/1.wav" for who in range(12)],
        ["ann/1.wav", "test/2.wav", "bob/x/3.wav"],
        ["ann/1.wav"],
    ],
)
def test_speakers_with_sessions_are_left_in_peace(
    paths: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert speakers(tree(tmp_path, *paths)) == tuple(sorted({path.split("/")[0] for path in paths}))
    assert not caplog.records


def test_recordings_in_parts_without_folders_for_speakers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert speakers(tree(tmp_path, "train/1.wav", "test/2.wav")) == ("test", "train")
    assert "named like parts of a corpus (test, train); if they are parts, make one sub-folder for" in caplog.text


def test_levels_that_fit_nothing(tmp_path: Path) -> None:
    tree(tmp_path, "ann/day1/1.wav")
    with pytest.raises(ManifestError, match="speaker_level is 0; use 1 for the folders in"):
        open_corpus(tmp_path, speaker_level=0)
    with pytest.raises(
        ManifestError, match=r"no recording lies in folders 3 deep, the deepest in 2; .*--speaker-level"
    ):
        open_corpus(tmp_path, speaker_level=3)
    (tmp_path / "m.csv").write_text("path,speaker\nann/day1/1.wav,ann\n")
    with pytest.raises(ManifestError, match=r"speaker_level is for .* by folders; here .*m\.csv names them"):
        open_corpus(tmp_path / "m.csv", speaker_level=2)
    (tmp_path / "wav.scp").write_text("u ann/day1/1.wav\n")
    (tmp_path / "utt2spk").write_text("u ann\n")
    with pytest.raises(ManifestError, match="utt2spk names them"):
        open_corpus(tmp_path, speaker_level=1)


def test_the_level_wins_over_a_table_of_speakers(tmp_path: Path) -> None:
    tree(tmp_path / "d", "train/ann/1.wav", "train/bob/1.wav")
    (tmp_path / "speakers.csv").write_text("speaker,gender\nann,f\nbob,m\n")
    manifest = open_corpus(tmp_path / "d", metadata=tmp_path / "speakers.csv", speaker_level=2)
    assert manifest.gender.tolist() == [1, 0]


def test_every_command_that_takes_a_corpus_takes_the_level(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "c" / "train").mkdir(parents=True)
    for folder in toy_corpus.glob("s*"):
        (tmp_path / "c" / "train" / folder.name).symlink_to(folder)
    made = run("trials", tmp_path / "c", "--speaker-level", "2", "-o", tmp_path / "list.txt").stdout
    assert "280 target and 2,880 non-target trials" in made
    refused = run("trials", tmp_path / "c", "-o", tmp_path / "list.txt", status=2)
    assert "--speaker-level 2 (such as s00)" in refused.stderr
    for command in ("train", "evaluate", "calibrate", "embed"):
        assert "--speaker-level" in run(command, "--help").stdout


def test_files_that_are_no_recordings_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tree(tmp_path, "ann/1.wav", "ann/1.TXT", "ann/.DS_Store", "bob/2.m4a", "bob/2.json", "README.md", ".scan.csv")
        assert open_corpus(tmp_path).passed_over == {".txt": 1, ".json": 1, "hidden": 1}
        assert not caplog.records
        tree(tmp_path, *(f"cem/{n}.XYZ" for n in range(5)), "cem/1", "loose.dss")
        manifest = open_corpus(tmp_path)
    assert manifest.speakers == ("ann", "bob")
    assert "unknown suffixes are skipped: 5 .xyz, 1 .dss, 1 without suffix; convert those" in caplog.text
    assert manifest.take([0]).passed_over == manifest.passed_over
    with pytest.raises(ManifestError, match=r"has no recordings; looked for .*; there are 5 \.xyz"):
        open_corpus(tmp_path / "cem")


def test_the_scan_counts_them_too(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "s00").mkdir()
    (tmp_path / "s00" / "u0.flac").symlink_to(toy_corpus / "s00" / "u0.flac")
    tree(tmp_path, "s00/u1.txt", "s00/u2.mpc", "s00/u3.mpc")
    report = scan(open_corpus(tmp_path)).report
    assert report.lines()[-1] == "files skipped because of their suffix: 2 .mpc, 1 .txt"
    assert report.to_json()["passed_over"] == {".txt": 1, ".mpc": 2}
    assert Manifest.from_rows([{"path": "a", "speaker": "b"}]).passed_over == {}
