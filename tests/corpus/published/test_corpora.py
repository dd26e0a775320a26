"""Published corpora in miniature, from their archives to the manifest and the trial lists."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.published_corpora import (
    VOX1_META,
    VOX2_META,
    Files,
    cn_celeb1,
    cn_celeb2,
    common_voice,
    in_parts,
    librispeech,
    sound,
    sounds,
    tarred,
    unpacked,
    vox1_dev,
    vox1_test,
    zipped,
)
from support.sounds import by_ffmpeg, noise
from xvectors.corpus import TEST, VAL, open_corpus
from xvectors.corpus.published import LAYOUTS, SubsetCount, prepare
from xvectors.errors import ConfigError, ManifestError
from xvectors.trials import read_trials

PARTS = [f"vox1_dev_wav_part{part}" for part in ("aa", "ab", "ac", "ad")]
O_LIST = "1 id10270/vidC/00001.wav id10270/vidD/00002.wav\n0 id10270/vidC/00001.wav id10271/vidC/00001.wav\n"
E_LIST = "1 id10001/vidA/00001.wav id10001/vidB/00001.wav\n0 id10001/vidA/00001.wav id10270/vidC/00001.wav\n"
MISSING = "1 id10001/vidA/00001.wav id10001/vidB/00001.wav\n0 id10001/vidA/00001.wav id10999/vidC/00001.wav\n"


@pytest.fixture
def voxceleb1(tmp_path: Path) -> Path:
    """The downloads of VoxCeleb1 in miniature."""
    source = tmp_path / "downloads"
    source.mkdir()
    in_parts(source, PARTS, zipped(vox1_dev()))
    (source / "vox1_test_wav.zip").write_bytes(zipped(vox1_test()))
    (source / "vox1_meta.csv").write_text(VOX1_META)
    (source / "vox2_meta.csv").write_text(VOX2_META)
    for name, text in (("veri_test2.txt", O_LIST), ("list_test_all2.txt", E_LIST), ("list_test_hard2.txt", MISSING)):
        (source / name).write_text(text)
    return source


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def contents(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_voxceleb_archives_become_a_manifest_and_trial_lists(voxceleb1: Path, tmp_path: Path) -> None:
    out = tmp_path / "vox"
    printed = run("prepare", "voxceleb", voxceleb1, "-o", out, "--no-hashes", "--durations", "--quiet")
    assert contents(out / "recordings" / "voxceleb1" / "dev") == vox1_dev()
    assert contents(out / "recordings" / "voxceleb1" / "test") == vox1_test()
    rows = rows_of(out / "manifest.csv")
    assert len(rows) == 16
    assert {row["duration_s"] for row in rows} == {"0.2"}
    kitt = next(row for row in rows if row["id"] == "id10270/vidC/00001")
    assert kitt["path"] == "recordings/voxceleb1/test/wav/id10270/vidC/00001.wav"
    facts = [kitt[name] for name in ("speaker", "gender", "session", "split", "subset", "nationality")]
    assert facts == ["id10270", "female", "id10270/vidC", "test", "vox1-test", "USA"]
    assert [row["split"] for row in rows if row["subset"] == "vox1-dev"] == [""] * 8
    assert "vox1-dev: 2 speakers, 8 recordings; published are 1,211 speakers and 148,642 recordings" in printed.stdout
    assert "MD5 of 2 archives not checked" in printed.stdout
    assert f"{out / 'VoxCeleb1-O.trials.csv'}: 2 trials, 1 target; published are 37,611" in printed.stdout
    assert "VoxCeleb1-H: not written: 1 of its 3 recordings are not there, such as id10999/vidC/00001" in printed.stdout
    trials = read_trials(out / "VoxCeleb1-E.trials.csv")
    assert trials.target.tolist() == [True, False]
    assert set(trials.names) == set(open_corpus(out / "VoxCeleb1-E.csv").id)
    assert not (out / "VoxCeleb1-H.trials.csv").exists()
    assert open_corpus(out / "vox1-test.csv").speakers == ("id10270", "id10271")
    assert (open_corpus(out).split == TEST).sum() == 8


def test_nothing_is_unpacked_or_hashed_twice(voxceleb1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "vox"
    prepare("voxceleb", [voxceleb1], out, hashes=False)
    before = {path: path.stat().st_mtime_ns for path in (out / "recordings").rglob("*.wav")}
    monkeypatch.setattr("xvectors.corpus.published.preparing.unpack", lambda *_: pytest.fail("unpacked twice"))
    prepare("voxceleb", [voxceleb1], out)
    for archive in (*PARTS, "vox1_test_wav.zip"):
        (voxceleb1 / archive).unlink()
    assert len(prepare("voxceleb", [voxceleb1], out).manifest) == 16  # the archives are no longer needed
    assert {path: path.stat().st_mtime_ns for path in (out / "recordings").rglob("*.wav")} == before


def test_unpacked_recordings_stay_where_they_are(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "vox1", vox1_dev() | vox1_test() | {"vox1_meta.csv": VOX1_META.encode()})
    unpacked(
        source, {"vox1_test_wav.zip": zipped(vox1_test()), "wav/id10001/vidA/00001.m4a": b"", "wav/loose.wav": b""}
    )
    out = tmp_path / "lists"
    with pytest.raises(ConfigError, match=r"vox1_test_wav\.zip.*wav/id10001/vidA/00001\.m4a.*--in-place"):
        prepare("voxceleb", [source], out)
    prepared = prepare("voxceleb", [source], out, in_place=True)
    names = ["manifest.csv", "prepared.json", "vox1-dev.csv", "vox1-test.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(prepare("voxceleb", [source], out, in_place=True).manifest) == 16
    assert len(prepared.manifest) == 16
    assert sum(prepared.left_out.values()) == 2
    assert open_corpus(out).full_path(0) == source / "wav/id10001/vidA/00001.wav"
    (source / "vox1_test_wav.zip").unlink()
    assert len(prepare("voxceleb", [source], tmp_path / "again").manifest) == 16  # without being told


def test_an_utterance_in_two_folders_is_named(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "vox2", {f"{kind}/id00012/vidA/1.{kind}": b"" for kind in ("m4a", "wav")})
    with pytest.raises(ManifestError, match=r"/wav/id00012/vidA/1\.wav: id .* already used .*/m4a/id00012/vidA/1\.m4a"):
        prepare("voxceleb", [source], tmp_path / "out")


def test_voxceleb2_as_m4a(tmp_path: Path) -> None:
    pytest.importorskip("av")
    m4a = by_ffmpeg(tmp_path / "a.m4a", noise(0.3), "aac").read_bytes()
    source = unpacked(
        tmp_path / "downloads",
        {
            "vox2_dev_aac.zip": zipped({"dev/aac/id00012/vidA/00001.m4a": m4a, "dev/aac/id00012/vidB/00001.m4a": m4a}),
            "vox2_test_aac.zip": zipped({"aac/id00017/vidC/00001.m4a": m4a}),
            "meta/vox2_meta.csv": VOX2_META.encode(),
        },
    )
    manifest = prepare("voxceleb", [source], tmp_path / "vox", hashes=False, durations=True).manifest
    assert [manifest.row(n).speaker for n in range(3)] == ["id00012", "id00012", "id00017"]
    assert manifest.gender.tolist() == [0, 0, 1]
    assert list(manifest.extra["subset"]) == ["vox2-dev", "vox2-dev", "vox2-test"]
    np.testing.assert_allclose(manifest.duration_s, 0.3, atol=0.1)  # AAC pads to whole frames


def test_published_md5_is_compared(voxceleb1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = LAYOUTS["voxceleb"]
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in voxceleb1.iterdir()}
    ours = tuple(replace(each, md5={name: md5[name] for name in each.md5 if name in md5}) for each in layout.archives)
    with pytest.raises(ManifestError, match=r"vox1_dev_wav_partaa: its MD5 is .*e395d020928bc15670b570a21695ed96"):
        prepare("voxceleb", [voxceleb1], tmp_path / "real")
    assert not list(tmp_path.rglob("*.wav"))
    monkeypatch.setitem(LAYOUTS, "voxceleb", replace(layout, archives=ours))
    prepared = prepare("voxceleb", [voxceleb1], tmp_path / "real")  # the folder can be used again
    assert prepared.hashed == ("vox1_dev_wav.zip", "vox1_test_wav.zip")
    assert prepared.unhashed == ()


def test_cn_celeb_and_its_trials(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "downloads", {"cn-celeb_v2.tar.gz": tarred(cn_celeb1())})
    in_parts(source, [f"cn-celeb2_v2.tar.gz{part}" for part in ("aa", "ab", "ac")], tarred(cn_celeb2()))
    out = tmp_path / "cn"
    printed = run("prepare", "cn-celeb", source, "-o", out, "--no-hashes", "--quiet")
    assert "4 recordings left out: of a test speaker, which eval/enroll and eval/test repeat" in printed.stderr
    assert "CN-Celeb-E.trials.csv: 8 trials, 4 target; published are 3,484,292" in printed.stdout
    manifest = open_corpus(out)
    subsets = list(manifest.extra["subset"])
    sizes = [subsets.count(name) for name in ("cn-celeb1-dev", "cn-celeb1-enroll", "cn-celeb1-test", "cn-celeb2")]
    assert sizes == [8, 2, 4, 2]
    at = list(manifest.id).index("eval/test/id00801-singing-02-001")
    test = manifest.row(at)
    assert (test.speaker, test.session, test.split) == ("id00801", "id00801/singing-02", TEST)
    assert manifest.extra["genre"][at] == "singing"
    assert len(set(read_trials(out / "CN-Celeb-E.trials.csv").names) & set(manifest.id)) == 6


def test_librispeech(tmp_path: Path) -> None:
    train = librispeech("train-clean-100", ["60-121082-0000", "60-121082-0001", "60-121090-0000"])
    dev = librispeech("dev-clean", ["84-121123-0000", "84-121123-0001"])
    source = unpacked(
        tmp_path / "downloads", {"train-clean-100.tar.gz": tarred(train), "dev-clean.tar.gz": tarred(dev)}
    )
    prepared = prepare("librispeech", [source], tmp_path / "libri", hashes=False)
    manifest = prepared.manifest
    assert manifest.speakers == ("60", "84")
    assert sorted(manifest.sessions) == ["60/121082", "60/121090", "84/121123"]
    assert dict(zip(manifest.id, manifest.gender.tolist(), strict=True))["84-121123-0001"] == 1
    assert [manifest.row(n).split == VAL for n in range(5)] == [each.startswith("84") for each in manifest.id]
    assert [each.name for each in prepared.counts] == ["dev-clean", "train-clean-100"]
    one = prepare("librispeech", [source / "dev-clean.tar.gz"], tmp_path / "dev", hashes=False)
    assert one.manifest.speakers == ("84",)
    clean = tmp_path / "dev" / "recordings" / "LibriSpeech" / "dev-clean"
    inside = prepare("librispeech", [clean], tmp_path / "inside")  # SPEAKERS.TXT lies above
    assert (inside.manifest.gender == 1).all()
    assert list(inside.manifest.extra["subset"]) == ["dev-clean"] * 2


def test_voxblink2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [f"audio/id00000{s}/vid{s}/0000{n}.wav" for s in (0, 1) for n in (0, 1)]
    listed = b"id000000,vid0,vidGone\nid000001,vid1\n"
    source = unpacked(tmp_path / "vb2", sounds([*paths, "audio/id000001/other/00000.wav"]))
    unpacked(source, {"vb2_meta.tar.gz": tarred({"data/spk2videos": listed, "meta/id000000/vid0/00000.txt": b"0 1\n"})})
    prepared = prepare("voxblink2", [source], tmp_path / "out")
    assert sorted(prepared.manifest.id) == [path.removeprefix("audio/").removesuffix(".wav") for path in paths]
    assert prepared.manifest.full_path(0) == source / paths[0]
    assert prepared.left_out == {"of a video that spk2videos does not list for the speaker": 1}
    assert "1 of 3 listed videos has no recordings here" in caplog.text


def test_common_voice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = "cv-corpus-17.0-2024-03-15-sw.tar.gz"
    source = unpacked(tmp_path / "downloads", {archive: tarred(common_voice("teen-ager"))})
    prepared = prepare("common-voice", [source], tmp_path / "cv")
    assert prepared.unhashed == (archive,)
    assert prepared.left_out == {"without a clip": 1}
    manifest = open_corpus(tmp_path / "cv")
    assert manifest.speakers == ("aa", "bb")
    np.testing.assert_array_equal(manifest.age, [25, 25, np.nan, np.nan])
    assert "common_voice_sw_3.mp3: 1 cell of 'age' is not understood" in caplog.text
    assert manifest.gender.tolist() == [1, 1, -1, -1]
    assert manifest.duration_s.tolist() == [0.2, 0.201, 0.202, 0.203]
    assert list(manifest.extra["subset"]) == ["train", "validated", "test", "validated"]
    assert manifest.full_path(3).read_bytes() == sound(3, "MP3")


def test_figures_are_compared() -> None:
    known = {each.name: each for layout in LAYOUTS.values() for each in layout.subsets}
    libri = SubsetCount(name="dev-clean", num_speakers=40, num_recordings=2703, published=known["dev-clean"])
    assert libri.line() == "dev-clean: 40 speakers, 2,703 recordings, as published"
    more = SubsetCount(name="cn-celeb2", num_speakers=1996, num_recordings=520_001, published=known["cn-celeb2"])
    assert more.is_complete
    fewer = SubsetCount(name="cn-celeb2", num_speakers=1996, num_recordings=519_999, published=known["cn-celeb2"])
    assert "more than 520,000 recordings" in fewer.line()
    assert SubsetCount(name="x", num_speakers=1, num_recordings=2, published=None).is_complete is None
    published = [known[f"vox{n}-{part}"] for n in (1, 2) for part in ("dev", "test")]
    assert sum(each.num_recordings or 0 for each in published[:2]) == 153_516  # the totals of the papers
    assert sum(each.num_recordings or 0 for each in published[2:]) == 1_128_246
    hashes = [md5 for layout in LAYOUTS.values() for each in layout.archives for md5 in each.md5.values()]
    assert len(hashes) == len(set(hashes)) == 16 + 4 + 7
    assert {len(md5) for md5 in hashes} == {32}


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("voxceleb", "speaker/video"),
        ("cn-celeb", "CN-Celeb_flac/data"),
        ("librispeech", "subset/speaker/chapter"),
        ("voxblink2", "id000000/DwgYRqnQZHM"),
        ("common-voice", r"validated\.tsv"),
    ],
)
def test_another_layout_names_the_expected_one(tmp_path: Path, corpus: str, message: str) -> None:
    other = unpacked(tmp_path / "other", {"ann/1.wav": b"", "bob/2.wav": b""})
    with pytest.raises(ManifestError, match=message):
        prepare(corpus, [other], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"neither archives of .* nor unpacked recordings"):
        prepare(corpus, [tmp_path / "empty"], tmp_path / "out2")


def test_mistakes_are_one_line(voxceleb1: Path, tmp_path: Path) -> None:
    def fails(*arguments: object) -> str:
        lines = run("prepare", *arguments, "--quiet", status=2).stderr.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    out = tmp_path / "out"
    assert "did you mean 'voxceleb'" in fails("voxcelb", voxceleb1, "-o", out)
    assert "nowhere: no such file or folder" in fails("voxceleb", tmp_path / "nowhere", "-o", out)
    assert "is not empty, and not a prepared corpus" in fails("voxceleb", voxceleb1, "-o", voxceleb1)
    assert "--in-place is for folders" in fails("voxceleb", voxceleb1 / "vox1_test_wav.zip", "--in-place", "-o", out)
    run("prepare", "voxceleb", voxceleb1, "-o", out, "--no-hashes", "--quiet")
    assert "holds voxceleb; name another folder for librispeech" in fails("librispeech", voxceleb1, "-o", out)
    (voxceleb1 / "veri_test2.txt").write_text(O_LIST.replace("0 id", "1 id"))
    assert "1 trial contradict" in fails("voxceleb", voxceleb1, "-o", out)
    (out / "prepared.json").write_text("{")
    assert "prepared.json: is damaged" in fails("voxceleb", voxceleb1, "-o", out)


def test_the_commands_that_follow_read_a_prepared_folder(voxceleb1: Path, tmp_path: Path) -> None:
    out = tmp_path / "vox"
    prepare("voxceleb", [voxceleb1], out, hashes=False)
    packed = run("pack", out / "vox1-dev.csv", "-o", tmp_path / "shards", "--quiet")
    assert "8 recordings of 2 speakers in 1 shard" in packed.stdout
    assert (
        io.StringIO(run("trials", out / "vox1-test.csv", "-o", tmp_path / "t.csv").stdout)
        .read()
        .startswith("12 target")
    )
