"""Every layout a corpus comes in, as published, and each mistake with its message."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from xvectors.corpus import NO_SPLIT, TEST, TRAIN, Manifest, open_corpus, read_lab_metadata
from xvectors.errors import ManifestError


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"RIFF")
    return folder


def speakers_of(manifest: Manifest) -> dict[str, str]:
    return {manifest.path[i]: manifest.speakers[manifest.speaker_index[i]] for i in range(len(manifest))}


def sessions_of(manifest: Manifest) -> list[str | None]:
    return [manifest.row(i).session for i in range(len(manifest))]


def test_one_folder_a_speaker(tmp_path: Path) -> None:
    touch(tmp_path, "bob/1.wav", "bob/v1/2.FLAC", "bob/v1/deep/er/3.mp3", "ann/x.opus", "ann/notes.txt")
    touch(tmp_path, ".hidden/1.wav", "ann/.git/1.wav", "ann/._x.wav", "empty folder/readme.md")
    manifest = open_corpus(tmp_path)
    assert speakers_of(manifest) == {
        "ann/x.opus": "ann",
        "bob/1.wav": "bob",
        "bob/v1/2.FLAC": "bob",
        "bob/v1/deep/er/3.mp3": "bob",
    }
    assert list(manifest.path) == sorted(manifest.path)
    assert sessions_of(manifest) == [None, None, "bob/v1", "bob/v1"]
    assert manifest.root == manifest.source == tmp_path
    assert manifest.full_path(0).exists()


APART, COMPOSED = "Zoe\u0308", "Zo\u00eb"


@pytest.mark.parametrize(("on_disk", "in_table"), [(APART, COMPOSED), (COMPOSED, APART)])
def test_names_have_one_unicode_form(tmp_path: Path, on_disk: str, in_table: str) -> None:
    touch(tmp_path / "data", f"{on_disk}/{on_disk}.wav", "ann/1.wav")
    manifest = open_corpus(tmp_path / "data")
    assert manifest.speakers == (COMPOSED, "ann")
    assert list(manifest.id) == [f"{COMPOSED}/{COMPOSED}", "ann/1"]
    assert manifest.full_path(0).exists()
    tables = {
        "paths.csv": f"path,speaker\n{in_table}/{in_table}.wav,{APART}\nann/1.wav,{COMPOSED}\n",
        "ids.csv": f"id,speaker\n{in_table},{in_table}\n1,ann\n",
        "speakers.csv": f"speaker,gender\n{in_table},f\nann,f\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    listed = open_corpus(tmp_path / "paths.csv", root=tmp_path / "data")
    assert listed.speakers == (COMPOSED,)
    assert listed.full_path(0).exists()
    assert open_corpus(tmp_path / "data", metadata=tmp_path / "paths.csv").full_path(0).exists()
    by_id = open_corpus(tmp_path / "data", metadata=tmp_path / "ids.csv")
    assert by_id.speakers == (COMPOSED, "ann")
    assert open_corpus(tmp_path / "data", metadata=tmp_path / "speakers.csv").gender.tolist() == [1, 1]
    kaldi(
        tmp_path / "data", **{"wav.scp": f"{in_table} {in_table}/{in_table}.wav\n", "utt2spk": f"{on_disk} {on_disk}\n"}
    )
    assert open_corpus(tmp_path / "data").full_path(0).exists()


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.wav")
    data = touch(tmp_path / "data", "bob/1.wav")
    (data / "ann").symlink_to(tmp_path / "elsewhere")
    (data / "bob" / "loop").symlink_to(data)
    assert speakers_of(open_corpus(data)) == {"ann/1.wav": "ann", "bob/1.wav": "bob"}


def test_recordings_in_no_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    with pytest.raises(
        ManifestError, match=r"2 recordings lie in no speaker's folder, such as 1\.wav, 2\.wav; make one"
    ):
        open_corpus(tmp_path)
    touch(tmp_path, "ann/1.wav")
    assert speakers_of(open_corpus(tmp_path)) == {"ann/1.wav": "ann"}
    assert "2 recordings lie in no speaker's folder and are left out, such as 1.wav, 2.wav" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: no such folder or manifest"),
        ("empty", r"empty: has no recordings; looked for files ending in \.wav, "),
        ("a.wav", r"a\.wav is a recording; give a folder of recordings or a manifest CSV"),
    ],
)
def test_what_is_no_corpus(tmp_path: Path, name: str, message: str) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=message):
        open_corpus(tmp_path / name)


def test_a_manifest_by_name_or_in_its_folder(tmp_path: Path) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text("path,speaker_id\nx/1.wav,ann\n")
    for manifest in (open_corpus(table), open_corpus(tmp_path)):
        assert speakers_of(manifest) == {"x/1.wav": "ann"}
        assert (manifest.root, manifest.source) == (tmp_path, table)
    assert open_corpus(table, root="/sounds").full_path(0) == Path("/sounds/x/1.wav")
    table.rename(tmp_path / "manifest.csv")
    assert speakers_of(open_corpus(tmp_path)) == {"x/1.wav": "ann"}
    with pytest.raises(ManifestError, match="metadata describes a folder; add the columns"):
        open_corpus(tmp_path / "manifest.csv", metadata=table)


VOX1 = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10002\tA.R._Rahman\tm\tIndia\ttest\n"
)
VOX2 = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set\nid00012 ,n000012 ,m ,dev\nid00016 ,n000016 ,f ,dev\n"


def test_voxceleb1_as_published(tmp_path: Path) -> None:
    touch(tmp_path, "id10001/1zcIwhmdeo4/00001.wav", "id10002/0_laIeN-Q44/00001.wav")
    (tmp_path / "vox1_meta.csv").write_text(VOX1)
    manifest = open_corpus(tmp_path)
    assert manifest.speakers == ("id10001", "id10002")
    assert manifest.gender.tolist() == [0, 0]
    assert sessions_of(manifest) == ["1zcIwhmdeo4", "0_laIeN-Q44"]
    assert list(manifest.extra["Nationality"]) == ["Ireland", "India"]
    assert list(manifest.extra["Set"]) == ["dev", "test"]
    assert manifest.split.tolist() == [NO_SPLIT, NO_SPLIT]
    manifest.with_columns(split=[TRAIN, TEST]).write_csv(tmp_path / "divided.csv")
    again = open_corpus(tmp_path / "divided.csv")
    assert again.split.tolist() == [TRAIN, TEST]
    assert list(again.extra["Set"]) == ["dev", "test"]


def test_voxceleb2_as_published_with_its_folders_above_the_speakers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "dev/aac/id00099/x/00001.m4a")
    (tmp_path / "vox2_meta.csv").write_bytes(VOX2.replace("\n", "\r\n").encode())
    manifest = open_corpus(tmp_path)
    assert manifest.speakers == ("id00012", "id00099")
    assert manifest.gender.tolist() == [0, -1]
    assert sessions_of(manifest) == ["21Uxsk56VDQ", "x"]
    assert "1 speaker of " in caplog.text
    assert "such as id00099" in caplog.text
    assert "such as id00016" in caplog.text


def test_a_voxceleb_table_above_the_folder_counts_only_where_it_fits(tmp_path: Path) -> None:
    (tmp_path / "vox1_meta.csv").write_text(VOX1)
    (tmp_path / "vox2_meta.csv").write_text(VOX2)
    touch(tmp_path, "vox2/id00016/v/1.wav", "other/id/v/1.wav")
    assert open_corpus(tmp_path / "vox2").gender.tolist() == [1]
    assert open_corpus(tmp_path / "other").speakers == ("id",)


def test_metadata_that_does_not_belong_to_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "data/ann/1.wav")
    (tmp_path / "meta.csv").write_text(VOX2)
    with pytest.raises(
        ManifestError, match=r"none of its folders \(ann\) is a speaker of .*meta\.csv \(id00012, id00016\)"
    ):
        open_corpus(tmp_path / "data", metadata=tmp_path / "meta.csv")


LAB = "id,speaker,video_id,sample_freq,duration,gender,age\n"


@pytest.mark.parametrize("style", ["tail", "id", "no session"])
def test_the_laboratory_table_of_utterances(tmp_path: Path, style: str, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "VoxCeleb2_AE" / "dev"
    table = tmp_path / "VoxCeleb2_AE" / "metadata_dev.csv"
    names = {
        "tail": ("id00012/vi_d1/00001.flac", "id00016/vid2/00007.wav"),
        "id": ("id00012/vi_d1/id00012_vi_d1_00001.flac", "id00016/vid2/id00016_vid2_00007.m4a"),
        "no session": ("id00012/id00012_vi_d1_00001.flac", "id00016/00007.m4a"),
    }[style]
    touch(data, *names, "id00012/vi_d1/unlisted.flac")
    rows = (
        "id00012_vi_d1_00001,id00012,vi_d1,16000,5.4,m,31.2\n"
        "id00016_vid2_00007,id00016,vid2,16000,7.25,f,\n"
        "id00016_vid2_00008,id00016,vid2,16000,7.25,f,55\n"
    )
    header = LAB
    if style == "no session":
        header = LAB.replace("video_id", "channel")
    table.write_text(header + rows)
    for manifest in (open_corpus(data, metadata=table), read_lab_metadata(data, table)):
        assert tuple(manifest.path) == names
        assert manifest.speakers == ("id00012", "id00016")
        assert list(manifest.id) == ["id00012_vi_d1_00001", "id00016_vid2_00007"]
        assert manifest.gender.tolist() == [0, 1]
        np.testing.assert_array_equal(manifest.age, np.array([31.2, np.nan], np.float32))
        assert manifest.duration_s.tolist() == [5.4, 7.25]
        assert list(manifest.extra["sample_freq"]) == ["16000", "16000"]
        assert sessions_of(manifest) == ([None, None] if style == "no session" else ["vi_d1", "vid2"])
        assert (manifest.root, manifest.source) == (data, table)
        assert manifest.full_path(1).exists()
    assert "1 of 3 rows has no recording and is left out, such as id00016/" in caplog.text


def test_the_laboratory_table_without_any_file(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text(LAB + "u_1,s,v,16000,1,m,30\n")
    (tmp_path / "data").mkdir()
    with pytest.raises(
        ManifestError,
        match=r"none of its 1 rows has a recording; looked for s/v/u_1\.\* or s/v/1\.\* in .*data",
    ):
        open_corpus(tmp_path / "data", metadata=table)
    table.write_text("path,speaker\nx.wav,s\n")
    with pytest.raises(ManifestError, match=r"looked for x\.wav in .*data and "):
        open_corpus(tmp_path / "data", metadata=table)
    table.write_text("speaker,gender\ns,m\n")
    with pytest.raises(ManifestError, match="one row per utterance"):
        read_lab_metadata(tmp_path / "data", table)
    table.write_text("speaker,gender\n")
    with pytest.raises(ManifestError, match="has a header and no rows"):
        open_corpus(tmp_path / "data", metadata=table)


@pytest.mark.parametrize("relative_to", ["data", "."])
def test_paths_relative_to_the_data_or_to_the_table(tmp_path: Path, relative_to: str) -> None:
    touch(tmp_path / "data", "s/1.wav", "t/2.wav")
    prefix = "" if relative_to == "data" else "data/"
    table = tmp_path / "m.csv"
    table.write_text(f"file,speaker,split\n{prefix}s/1.wav,S,train\n{prefix}t/2.wav,T,\n{prefix}t/3.wav,T,\n")
    manifest = open_corpus(tmp_path / "data", metadata=table)
    assert [manifest.full_path(i) for i in range(2)] == [tmp_path / "data/s/1.wav", tmp_path / "data/t/2.wav"]
    assert manifest.speakers == ("S", "T")
    assert manifest.split.tolist() == [TRAIN, NO_SPLIT]


def test_one_row_a_session_with_ages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = touch(tmp_path / "dev", "s/v1/1.wav", "s/v1/2.wav", "s/v2/1.wav", "s/v3/1.wav", "t/v1/1.wav")
    table = tmp_path / "ages.csv"
    table.write_text("VoxCeleb_ID,video_id,gender,speaker_age\ns,v1,f,30\ns,v2,f,41\nu,v1,m,20\n")
    manifest = open_corpus(data, metadata=table)
    np.testing.assert_array_equal(manifest.age, np.array([30, 30, 41, np.nan, np.nan], np.float32))
    assert manifest.gender.tolist() == [1, 1, 1, 1, -1]  # the speaker's gender holds in every session
    assert "such as t" in caplog.text
    assert "such as u" in caplog.text


def test_one_row_a_speaker_in_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "s/1.wav", "t/1.wav")
    (tmp_path / "metadata.csv").write_text("ID,sex,age\ns,m,20\nt,f,30\ns,m,20\n")
    manifest = open_corpus(tmp_path)
    assert manifest.gender.tolist() == [0, 1]
    assert manifest.age.tolist() == [20, 30]
    (tmp_path / "metadata.csv").write_text("ID,sex,age\ns,m,20\nt,f,30\n\ns,m,21\n")
    with pytest.raises(ManifestError, match=r"lines 2 and 5 disagree about s; keep one of them, or add a column"):
        open_corpus(tmp_path)
    (tmp_path / "metadata.csv").write_text("ID,sex\ns,x\n")
    assert open_corpus(tmp_path).gender.tolist() == [-1, -1]
    assert "s/1.wav: 1 cell of 'sex' is not understood and counts as unknown, the first: gender 'x'" in caplog.text


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_kaldi(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path / "k",
        wav_scp="u1 a b.wav\nu2  /abs/2.flac \n",
        utt2spk="u1 ann\nu2 bob\n",
        spk2gender="ann f\nbob m\n",
        spk2age="ann 30\n",
        utt2dur="u2 3.5\n",
    )
    manifest = open_corpus(folder)
    assert list(manifest.id) == ["u1", "u2"]
    assert [manifest.full_path(i) for i in range(2)] == [folder / "a b.wav", Path("/abs/2.flac")]
    assert manifest.gender.tolist() == [1, 0]
    np.testing.assert_array_equal(manifest.age, np.array([30, np.nan], np.float32))
    np.testing.assert_array_equal(manifest.duration_s, [np.nan, 3.5])
    assert manifest.source == folder
    assert open_corpus(folder, root="/r").full_path(0) == Path("/r/a b.wav")


def test_kaldi_segments(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = kaldi(
        tmp_path / "k",
        wav_scp="r1 1.wav\n",
        utt2spk="u1 ann\nu2 bob\nu3 bob\nu4 bob\n",
        segments="u1 r1 0.3 1.1\nu2 r1 1.1 -1\nu3 r9 0 1\nu5 r1 0 1\n",
    )
    manifest = open_corpus(folder)
    assert list(manifest.id) == ["u1", "u2"]
    assert manifest.start_s.tolist() == [0.3, 1.1]
    np.testing.assert_array_equal(manifest.duration_s, [0.8, np.nan])
    assert sessions_of(manifest) == ["r1", "r1"]
    assert "1 utterance has no speaker in utt2spk and is left out, such as u5" in caplog.text
    assert "2 utterances have no recording in wav.scp and are left out, such as u4, u3" in caplog.text


def test_kaldi_paths_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "wav/1.wav")
    folder = kaldi(tmp_path / "k", wav_scp="u1 wav/1.wav\n", utt2spk="u1 ann\n")
    monkeypatch.chdir(tmp_path)
    assert open_corpus(folder).full_path(0) == tmp_path / "wav/1.wav"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"wav_scp": "u1 touch pwned; cat x.wav |\n"}, "u1 is a command .*commands are not executed"),
        ({"wav_scp": "u1 x.ark:15\n"}, "u1 lies in a Kaldi archive"),
        ({"utt2spk": ""}, "utt2spk: is missing; a Kaldi data directory needs wav.scp and utt2spk"),
        ({"wav_scp": "u1 x.wav\n\nu1 y.wav\n"}, "wav.scp: lines 1 and 3 both define 'u1'"),
        ({"wav_scp": "u1\n"}, "wav.scp: line 1: 'u1' has no value"),
        ({"utt2spk": "u2 a\n"}, "no utterance has both"),
        ({"segments": "u1 u1 1\n"}, "'u1 1' is not a recording, a start and an end in seconds"),
        ({"segments": "u1 u1 2 1\n"}, "cannot go from 2 to 1 s"),
    ],
)
def test_kaldi_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"wav_scp": "u1 x.wav\n", "utt2spk": "u1 a\n"} | changed
    folder = kaldi(tmp_path / "k", **{name: text for name, text in files.items() if text})
    with pytest.raises(ManifestError, match=message):
        open_corpus(folder)
    assert not (tmp_path / "pwned").exists()


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "s/1.wav")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("s"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ManifestError, match=r"s: cannot be listed \(Permission denied\); check its permissions"):
        open_corpus(tmp_path)


def test_importing_the_corpus_opens_no_sound_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from xvectors.corpus import Manifest, open_corpus, scan, split_corpus; "
        "assert callable(scan); assert not {'torch', 'soundfile', 'soxr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_corpus_twice_is_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, *(f"s{s}/v{s % 3}/{u}.wav" for s in range(20) for u in (3, 1, 2)))
    caplog.set_level(logging.WARNING)
    one, other = open_corpus(tmp_path), open_corpus(str(tmp_path))
    assert list(one.path) == list(other.path)
    assert list(one.id) == [path.removesuffix(".wav") for path in one.path]
    assert not caplog.records
