"""Segments of files, as tables write them: ends, offsets, samples and rows that contradict themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors.corpus import Manifest, open_corpus, scan
from xvectors.corpus.scanning import Reason
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import ManifestError

NAN = float("nan")


def read(folder: Path, text: str, name: str = "m.csv") -> Manifest:
    (folder / name).write_text(text, encoding="utf-8")
    return open_corpus(folder / name)


def times(manifest: Manifest) -> list[tuple[float, float]]:
    return list(zip(manifest.start_s.tolist(), manifest.duration_s.tolist(), strict=True))


def sound(path: Path, seconds: float, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate)


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        ("start,end", "0.0,2.5", (0.0, 2.5)),
        ("start_s,end_s", "1.2,3.7", (1.2, 2.5)),
        ("Start,Stop", "1,3.5", (1.0, 2.5)),
        ("start_time,end_time", "1,3", (1.0, 2.0)),
        ("end", "2.5", (0.0, 2.5)),
        ("start,end", "1,", (1.0, NAN)),
        ("start,end,duration", "1,,2", (1.0, 2.0)),
        ("start,end,duration", "1,3,2.04", (1.0, 2.0)),
        ("start,end,duration", "1,3,60", (1.0, 2.0)),
        ("offset,duration", "0,2.5", (0.0, 2.5)),
        ("start,duration,offset", "1,2,9", (1.0, 2.0)),
    ],
)
def test_ends_make_segments(columns: str, row: str, expected: tuple[float, float], tmp_path: Path) -> None:
    manifest = read(tmp_path, f"path,speaker,{columns}\nlong.wav,a,{row}\n")
    np.testing.assert_array_equal(times(manifest), [expected])
    assert manifest.has_segments
    assert not manifest.faults
    manifest.write_csv(tmp_path / "again.csv")
    again = open_corpus(tmp_path / "again.csv")
    np.testing.assert_array_equal(times(again), [expected])
    assert again.has_segments


def test_a_segment_at_the_beginning_ends_where_it_says(calibrated_starter: Path, tmp_path: Path) -> None:
    sound(tmp_path / "long.wav", 10)
    table = "path,speaker,start,end\nlong.wav,a,0.0,2.5\n"
    scanned = scan(read(tmp_path, table)).manifest
    assert times(scanned) == [(0.0, 2.5)]
    assert scan(read(tmp_path, "path,speaker,duration\nlong.wav,a,2.5\n")).manifest.duration_s == 10
    embedded = SpeakerEncoder.from_pretrained(calibrated_starter, device="cpu").encode_manifest(read(tmp_path, table))
    assert embedded.duration_s.tolist() == [2.5]


def test_a_start_without_an_end_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path, "path,speaker,start\na.wav,a,0\nb.wav,a,1.5\nc.wav,a,2\n")
    assert "m.csv: 2 rows have a start and neither an end nor a duration" in caplog.text
    assert "add a column end or duration" in caplog.text
    caplog.clear()
    read(tmp_path, "path,speaker,start,end\na.wav,a,0,\nb.wav,a,1.5,2\n")
    assert not caplog.records


def test_rows_that_contradict_themselves_are_left_out_one_by_one(calibrated_starter: Path, tmp_path: Path) -> None:
    for name in "abcdefg":
        sound(tmp_path / f"{name}.wav", 10)
    manifest = read(
        tmp_path,
        "path,speaker,start,end,duration\na.wav,a,0,2,\nb.wav,a,1,4,3\nc.wav,a,3,1,\nd.wav,a,2,2,\ne.wav,a,0,5,2\n"
        "f.wav,a,-1,5,\ng.wav,a,1,soon,\n",
    )
    assert {row: fault.split(";")[0] for row, fault in manifest.faults.items()} == {
        2: "it ends at 1 s and starts at 3 s",
        3: "it ends at 2 s and starts at 2 s",
        4: "it starts at 0 s, lasts 2 s and ends at 5 s, which contradicts itself",
        5: "start_s -1 cannot be",
        6: "end_s 'soon' is not a number",
    }
    result = scan(manifest, max_rejected=0.8)
    assert times(result.manifest) == [(0.0, 2.0), (1.0, 3.0)]
    left_out = {remark.path: (remark.reason, remark.detail) for remark in result.report.rejected}
    assert left_out == {f"{name}.wav": (Reason.CONTRADICTORY, manifest.faults[i]) for i, name in enumerate("cdefg", 2)}
    assert manifest.take([6, 0]).faults == {0: manifest.faults[6]}
    with pytest.raises(ManifestError, match="5 of 7 utterances cannot be used \\(5 contradictory times\\)"):
        scan(manifest)
    # written down they stay unusable
    manifest.write_csv(tmp_path / "again.csv")
    assert sorted(open_corpus(tmp_path / "again.csv").faults) == [2, 3, 4, 5, 6]
    embedded = SpeakerEncoder.from_pretrained(calibrated_starter, device="cpu").encode_manifest(manifest)
    assert embedded.rows.tolist() == [0, 1]
    assert "ends at 1 s and starts at 3 s; correct the table" in dict(embedded.failures)[2]


def test_nemo(tmp_path: Path) -> None:
    lines = [
        {"audio_filepath": "a.wav", "offset": 0, "duration": 2.5, "label": "ann", "text": 'hello, "you"'},
        {"audio_filepath": "b.wav", "offset": 1.25, "duration": 3.0, "label": "bob", "text": None, "rttm": [1, 2]},
    ]
    text = "\n".join(map(json.dumps, lines))
    for name in ("train.json", "manifest.jsonl", "x.manifest"):
        manifest = read(tmp_path, text, name)
        assert (list(manifest.path), manifest.speakers) == (["a.wav", "b.wav"], ("ann", "bob"))
        assert times(manifest) == [(0.0, 2.5), (1.25, 3.0)]
        assert manifest.has_segments
        assert list(manifest.extra["text"]) == ['hello, "you"', ""]
        assert list(manifest.extra["rttm"]) == ["", "[1, 2]"]
    assert read(tmp_path, json.dumps(lines[0] | {"speaker": "x"}), "m.json").speakers == ("x",)
    with pytest.raises(ManifestError, match=r"m\.json: line 2 is not JSON .*one object per line"):
        read(tmp_path, f"{json.dumps(lines[0])}\n{{\n", "m.json")
    with pytest.raises(ManifestError, match=r"m\.json: line 3: speaker is empty"):
        read(tmp_path, f"{json.dumps(lines[0])}\n\n{json.dumps({'audio_filepath': 'c', 'label': ''})}\n", "m.json")


SPEECHBRAIN = "ID,duration,wav,start,stop,spk_id\n"


def test_speechbrain_counts_samples(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 6, rate=8_000)
    # chunks with the duration of the file, as its recipes write them, and whole files
    chunks = f"{SPEECHBRAIN}u1,6.0,a.wav,0,24000,ann\nu2,6.0,a.wav,24000,48000,ann\nu3,3.0,b.wav,0,24000,bob\n"
    manifest = read(tmp_path, chunks)
    assert times(manifest) == [(0.0, 3.0), (3.0, 3.0), (0.0, 3.0)]
    assert (list(manifest.id), manifest.speakers) == (["u1", "u2", "u3"], ("ann", "bob"))
    # without the recording the table tells the rate
    (tmp_path / "a.wav").unlink()
    assert times(read(tmp_path, chunks)) == [(0.0, 3.0), (3.0, 3.0), (0.0, 3.0)]
    with pytest.raises(
        ManifestError, match=r"may be seconds or samples, and .*a\.wav cannot be opened .*start_s and end_s"
    ):
        read(tmp_path, f"{SPEECHBRAIN}u1,60.0,a.wav,0,24000,ann\n")


def test_whole_numbers_of_seconds_are_no_samples(tmp_path: Path) -> None:
    assert times(read(tmp_path, f"{SPEECHBRAIN}u1,3,a.wav,0,3,ann\nu2,60,a.wav,30,33,ann\n")) == [
        (0.0, 3.0),
        (30.0, 3.0),
    ]
    table = "wav,start,stop,spk_id\nlong.wav,1000,{},ann\n"
    assert times(read(tmp_path, "wav,start,stop,spk_id\nlong.wav,20,900,ann\n")) == [(20.0, 880.0)]
    # 1,200 may be either: the recording tells, and a name with its unit
    sound(tmp_path / "long.wav", 1201, rate=8_000)
    assert times(read(tmp_path, table.format(1200))) == [(1000.0, 200.0)]
    sound(tmp_path / "long.wav", 3, rate=8_000)
    assert times(read(tmp_path, table.format(17000))) == [(0.125, 2.0)]
    (tmp_path / "long.wav").unlink()
    with pytest.raises(ManifestError, match="may be seconds or samples"):
        read(tmp_path, table.format(1200))
    assert times(read(tmp_path, "wav,start_s,end_s,spk_id\nlong.wav,1000,1200,ann\n")) == [(1000.0, 200.0)]


COMMON_VOICE = (
    "client_id\tpath\tsentence\tage\tgender\tsegment\n"
    'c1\tx1.mp3\t"Hello, he said\ttwenties\tmale_masculine\t\n'
    "c2\tx2.mp3\tYes\tfourties\tfemale_feminine\t\n"
    "c3\tx3.mp3\tNo\tteens\tdo_not_wish_to_say\t\n"
    "c1\tx4.mp3\tMaybe\t\tother\t\n"
)


def test_common_voice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clips").mkdir()
    manifest = read(tmp_path, COMMON_VOICE, "train.tsv")
    assert manifest.speakers == ("c1", "c2", "c3")
    np.testing.assert_array_equal(manifest.age, np.array([25, 45, 16, NAN], np.float32))
    assert manifest.gender.tolist() == [0, 1, -1, -1]
    assert manifest.full_path(0) == tmp_path / "clips" / "x1.mp3"
    assert manifest.extra["sentence"][0] == '"Hello, he said'
    with pytest.raises(ManifestError, match=r"tables of Common Voice; name one of them: .*train\.tsv"):
        open_corpus(tmp_path)
    (tmp_path / "validated.tsv").write_text(COMMON_VOICE)
    assert open_corpus(tmp_path).speakers == ("c1", "c2", "c3")
    assert not caplog.records


@pytest.mark.parametrize(
    ("word", "age"), [("20-29", 25), ("30s", 35), ("nineties", 95), ("Fifties", 55), ("41.5", 41.5)]
)
def test_ages_in_words(word: str, age: float, tmp_path: Path) -> None:
    assert read(tmp_path, f"path,speaker,age\na,b,{word}\n").age.tolist() == [age]
