"""The scan on files of every kind: good ones pass, each broken kind has its reason, nothing ends the run."""

from __future__ import annotations

import csv
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors import audio
from xvectors.corpus import Manifest, Reason, open_corpus, scan
from xvectors.corpus import scanning as scanning_module
from xvectors.corpus.findings import FindingCache
from xvectors.errors import ManifestError

RATE = 16000


def noise(seed: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def corpus(folder: Path, good: int = 6) -> Path:
    """So many good recordings of two speakers, in many formats."""
    for number in range(good):
        name, subtype = [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")][
            number % 4
        ]
        target = folder / f"s{number % 2}" / f"{number}.{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        audio.write(target, noise(number, 1.0 + number / 10), RATE, subtype)
    return folder


def reasons(manifest: Manifest, **options: object) -> dict[str, Reason]:
    report = scan(manifest, max_rejected=1.0, **options).report
    return {remark.path: remark.reason for remark in report.rejected}


def test_good_recordings_pass(tmp_path: Path) -> None:
    result = scan(open_corpus(corpus(tmp_path)))
    np.testing.assert_allclose(sorted(result.manifest.duration_s), [1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    report = result.report
    assert report.utterances_per_speaker == {"s0": 3, "s1": 3}
    assert report.hours == pytest.approx(7.5 / 3600)
    assert report.hours_per_speaker == pytest.approx({"s0": 3.6 / 3600, "s1": 3.9 / 3600})
    assert report.sample_rates_hz == {RATE: 6}
    assert report.genders == {"male": 0, "female": 0, "unknown": 2}
    assert (report.rejected, report.warned, report.rejected_share) == ([], [], 0.0)
    assert report.lines() == [
        "6 utterances, 2 speakers (2 unknown), 0.00 hours, 16000 Hz (6)",
        "utterances per speaker: 3 to 3, median 3",
    ]


def broken_corpus(folder: Path) -> Path:
    """A 24-file corpus with every broken kind."""
    s0 = corpus(folder, 12) / "s0"
    (s0 / "empty.wav").touch()
    audio.write(s0 / "no_samples.wav", np.zeros(0, np.float32), RATE)
    (s0 / "text.wav").write_text("not a sound")
    for name, subtype in (("cut.wav", "PCM_16"), ("cut.flac", "PCM_16"), ("cut.mp3", "MPEG_LAYER_III")):
        audio.write(s0 / name, noise(50, 2.0), RATE, subtype)
        (s0 / name).write_bytes((s0 / name).read_bytes()[: (s0 / name).stat().st_size // 2])
    audio.write(s0 / "silent.flac", np.zeros(RATE, np.float32), RATE)
    audio.write(s0 / "opposed.flac", np.stack([noise(51), -noise(51)], axis=1), RATE)
    bad = noise(52)
    bad[500] = np.nan
    audio.write(s0 / "nan.wav", bad, RATE, "FLOAT")
    audio.write(s0 / "short.wav", noise(53, 0.1), RATE)
    audio.write(s0 / "copy.wav", noise(0), RATE)  # 0.wav again
    stolen = (noise(54) * 32768).astype(np.int16)
    soundfile.write(s0 / "stolen.flac", stolen, RATE)
    soundfile.write(folder / "s1" / "stolen.wav", stolen, RATE)
    audio.write(s0 / "clipped.wav", np.clip(noise(55) * 30, -1, 1), RATE)
    return folder


BROKEN = {
    "s0/empty.wav": Reason.EMPTY,
    "s0/no_samples.wav": Reason.EMPTY,
    "s0/text.wav": Reason.UNREADABLE,
    "s0/cut.wav": Reason.TRUNCATED,
    "s0/cut.flac": Reason.TRUNCATED,
    "s0/cut.mp3": Reason.TRUNCATED,
    "s0/silent.flac": Reason.SILENT,
    "s0/nan.wav": Reason.NOT_FINITE,
    "s0/short.wav": Reason.TOO_SHORT,
    "s0/copy.wav": Reason.DUPLICATE,
    "s0/stolen.flac": Reason.TWO_SPEAKERS,
    "s1/stolen.wav": Reason.TWO_SPEAKERS,
}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_broken_kind_has_its_reason(tmp_path: Path, workers: int) -> None:
    manifest = open_corpus(broken_corpus(tmp_path))
    result = scan(manifest, min_duration_s=0.5, workers=workers)
    report = result.report
    assert {remark.path: remark.reason for remark in report.rejected} == BROKEN
    assert len(result.manifest) == len(manifest) - len(BROKEN) == 14
    assert [(remark.path, remark.reason) for remark in report.warned] == [
        ("s0/clipped.wav", Reason.CLIPPED),
        ("s0/opposed.flac", Reason.CANCELED),
    ]
    details = {remark.path: remark.detail for remark in report.rejected}
    assert details["s0/copy.wav"] == "a copy of s0/0.wav"
    assert details["s0/stolen.flac"] == "the same sound stands under s0, s1: s1/stolen.wav"
    assert details["s0/short.wav"] == "lasts 0.100 s, at least 0.500 s are needed"
    assert report.rejected_share == 12 / 26
    lines = report.lines()
    assert "left out (truncated): 3: s0/cut.flac, s0/cut.mp3, s0/cut.wav" in lines
    assert "kept, but (clipped): 1: s0/clipped.wav" in lines
    assert json.loads(json.dumps(report.to_json()))["rejected"][0]["reason"] == report.rejected[0].reason.value
    report.write_csv(tmp_path / "report.csv")
    with open(tmp_path / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows if row["outcome"] == "left out"} == set(BROKEN)
    assert [row["path"] for row in rows if row["outcome"] == "kept"] == ["s0/clipped.wav", "s0/opposed.flac"]


def test_too_many_broken_files_stop_the_run(tmp_path: Path) -> None:
    manifest = open_corpus(broken_corpus(tmp_path))
    with pytest.raises(
        ManifestError, match=r"12 of 26 utterances cannot be used \(.*3 truncated.*\), more than .*0\.4"
    ):
        scan(manifest, min_duration_s=0.5, max_rejected=0.4)
    gone = Manifest.from_rows([{"path": f"{n}.wav", "speaker": "s"} for n in range(3)], tmp_path)
    with pytest.raises(ManifestError, match=r"3 of 3 utterances cannot be used \(3 missing\).*0\.wav: no such file"):
        scan(gone, max_rejected=1.0)


HEADERS_TELL = ("s0/empty.wav", "s0/no_samples.wav", "s0/text.wav", "s0/cut.wav", "s0/cut.mp3")


def test_headers_alone_find_what_headers_tell(tmp_path: Path) -> None:
    found = reasons(open_corpus(broken_corpus(tmp_path)), contents=False)
    assert found == {path: BROKEN[path] for path in HEADERS_TELL}


def test_what_is_full_scale_depends_on_the_encoding(tmp_path: Path) -> None:
    loud = np.clip(noise(1) * 30, -1, 1)
    for subtype in ("PCM_U8", "PCM_24", "FLOAT", "ULAW", "ALAW"):
        audio.write(tmp_path / "s" / f"{subtype}.wav", loud, RATE, subtype)
        audio.write(tmp_path / "s" / f"{subtype}_quiet.wav", noise(2), RATE, subtype)
    report = scan(open_corpus(tmp_path), max_rejected=1.0).report
    assert sorted(remark.path for remark in report.warned) == [
        f"s/{subtype}.wav" for subtype in ("ALAW", "FLOAT", "PCM_24", "PCM_U8", "ULAW")
    ]


def test_one_path_under_two_speakers(tmp_path: Path) -> None:
    corpus(tmp_path)
    rows = [{"path": "s0/0.wav", "speaker": "s0"}, {"path": "s0/0.wav", "speaker": "x"}]
    with pytest.raises(ManifestError, match=r"s0/0\.wav is listed under two speakers, 's0' and 'x'"):
        scan(Manifest.from_rows(rows, tmp_path))
    rows[1]["speaker"] = "s0"
    assert reasons(Manifest.from_rows(rows, tmp_path), contents=False) == {"s0/0.wav": Reason.DUPLICATE}
    segments = [{**rows[0], "duration_s": 0.5}, {**rows[1], "speaker": "x", "start_s": 0.5}]
    assert reasons(Manifest.from_rows(segments, tmp_path)) == {}


def test_segments_are_checked_against_the_file(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noise(0, 4.0), RATE)
    rows = [
        {"id": "fits", "start_s": 0.0, "duration_s": 1.5},
        {"id": "rest", "start_s": 1.5, "duration_s": ""},
        {"id": "rounded", "start_s": 3.0, "duration_s": 1.04},
        {"id": "beyond", "start_s": 3.5, "duration_s": 1.0},
        {"id": "behind", "start_s": 9.0, "duration_s": 1.0},
    ]
    manifest = Manifest.from_rows([{**row, "path": "a.wav", "speaker": "s"} for row in rows], tmp_path)
    for contents in (True, False):
        result = scan(manifest, contents=contents)
        assert list(result.manifest.id) == ["fits", "rest", "rounded"]
        assert result.manifest.duration_s.tolist() == [1.5, 2.5, 1.0]
        assert [remark.reason for remark in result.report.rejected] == [Reason.OUTSIDE] * 2
    assert result.report.rejected[0].detail == "it starts at 3.5 s and lasts 1 s, the file lasts 4.000 s"


def test_a_stated_duration_of_a_whole_file_is_replaced(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noise(0, 2.0), RATE)
    manifest = Manifest.from_rows([{"path": "a.wav", "speaker": "s", "duration_s": 99}], tmp_path)
    assert scan(manifest).manifest.duration_s.tolist() == [2.0]


def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are really opened from now on."""
    paths: list[str] = []
    real = scanning_module.examine

    def counting(path: str, *arguments: object, **options: object) -> object:
        paths.append(os.path.basename(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(scanning_module, "examine", counting)
    return paths


def test_a_second_scan_opens_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = broken_corpus(tmp_path)
    manifest = open_corpus(folder)
    first = reasons(manifest, min_duration_s=0.5)
    assert (folder / ".scan.csv").exists()
    opened = examined(monkeypatch)
    assert reasons(open_corpus(folder), min_duration_s=0.5) == first
    assert opened == ["text.wav"]  # what is unreadable may become readable with an extra
    opened.clear()
    audio.write(folder / "s0" / "silent.flac", noise(99), RATE)
    os.utime(folder / "s0" / "0.wav", ns=(1, 1))
    assert "s0/silent.flac" not in reasons(manifest, min_duration_s=0.5)
    assert set(opened) == {"text.wav", "silent.flac", "0.wav"}


def test_findings_of_headers_do_not_stand_for_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_corpus(corpus(tmp_path))
    scan(manifest, contents=False)
    opened = examined(monkeypatch)
    scan(manifest, contents=False)
    assert not opened
    scan(manifest)
    assert len(opened) == 6
    scan(manifest, contents=False)
    scan(manifest, cache=False)
    assert len(opened) == 12


@pytest.mark.parametrize("content", ["", "path,other\n1,2\n", "damaged", None, b"\xff\xfe\x00"])
def test_a_damaged_cache_is_written_anew(
    tmp_path: Path, content: str | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = open_corpus(corpus(tmp_path))
    scan(manifest)
    cache = tmp_path / ".scan.csv"
    good = cache.read_bytes()
    damaged = good.replace(b",16000,", b",many,") if content is None else content
    cache.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with caplog.at_level(logging.WARNING):
        assert len(scan(manifest).manifest) == 6
    assert "cache of earlier scans is ignored and will be rewritten" in caplog.text
    assert sorted(cache.read_bytes().split(b"\n")) == sorted(good.split(b"\n"))


def test_a_folder_marked_read_only_sends_the_cache_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    folder = corpus(tmp_path / "corpus")
    manifest = open_corpus(folder)
    folder.chmod(0o555)
    try:
        with caplog.at_level(logging.INFO):
            scan(manifest)
        assert f"the scan is cached in {home}" in caplog.text
        assert not (folder / ".scan.csv").exists()
        opened = examined(monkeypatch)
        scan(manifest)
        assert not opened
    finally:
        folder.chmod(0o755)


def test_the_cache_lies_beside_a_table_under_its_name(tmp_path: Path) -> None:
    manifest = open_corpus(corpus(tmp_path))
    manifest.write_csv(tmp_path / "list.csv")
    scan(Manifest.read_csv(tmp_path / "list.csv"))
    assert (tmp_path / "list.scan.csv").exists()
    scan(replace(manifest, source=None))
    assert not (tmp_path / ".scan.csv").exists()


def test_an_interrupted_scan_keeps_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_corpus(corpus(tmp_path, 12))
    real = scanning_module.examine

    def interrupted(path: str, *arguments: object, **options: object) -> object:
        if path.endswith("9.flac"):
            raise KeyboardInterrupt
        return real(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(scanning_module, "examine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scan(manifest, workers=1)
    opened = examined(monkeypatch)
    scan(manifest, workers=1)
    assert 0 < len(opened) < 12
    assert "9.flac" in opened


def test_findings_survive_the_cache(tmp_path: Path) -> None:
    folder = broken_corpus(tmp_path)
    scan(open_corpus(folder), max_rejected=1.0)
    cache = FindingCache(folder)
    before = dict(cache._found)
    cache.save()
    after = FindingCache(folder)._found
    assert len(before) == 25  # all but the unreadable one
    assert {place: repr(found) for place, found in after.items()} == {p: repr(f) for p, f in before.items()}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    (folder / "s0" / "0.wav").rename(folder / "s0" / "caf\udce9.wav")
    (folder / "s1" / "b\udce9.wav").touch()
    manifest = open_corpus(folder)
    for _ in range(2):
        result = scan(manifest)
        assert len(result.manifest) == 5
        assert "left out (empty): 1: s1/b\\udce9.wav" in result.report.lines()
        assert "left out (name not UTF-8): 1: s0/caf\\udce9.wav" in result.report.lines()
        result.report.write_csv(tmp_path / "report.csv")
        assert "b\\udce9.wav" in (tmp_path / "report.csv").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.real
def test_real_speech(speechocean: Path) -> None:
    manifest = open_corpus(speechocean)
    stated = manifest.duration_s
    result = scan(manifest, cache=False)
    report = result.report
    assert (report.num_kept, len(report.utterances_per_speaker)) == (2500, 125)
    assert report.sample_rates_hz == {16000: 2500}
    assert report.genders == {"male": 58, "female": 67, "unknown": 0}
    assert report.rejected == []
    np.testing.assert_allclose(result.manifest.duration_s, stated, atol=0.006)


def test_a_file_that_lacks_its_last_milliseconds_is_kept_and_listed(tmp_path: Path) -> None:
    target = corpus(tmp_path) / "s0" / "0.wav"
    target.write_bytes(target.read_bytes()[:-2])
    manifest = open_corpus(tmp_path)
    for _ in range(2):  # the second time from the cache
        report = scan(manifest).report
        assert (report.num_kept, report.rejected) == (6, [])
        assert [(remark.path, remark.reason) for remark in report.warned] == [("s0/0.wav", Reason.INCOMPLETE)]
        assert report.warned[0].detail == "its header states 0.062 ms more than there is"
        assert "kept, but (end missing): 1: s0/0.wav" in report.lines()
