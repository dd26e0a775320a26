"""Archives that are unsafe, damaged or incomplete, and what an interrupted run leaves."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.published_corpora import in_parts, sounds, tarred, unpacked, vox1_dev, vox1_test, zipped
from xvectors.corpus.published import prepare, unpacking
from xvectors.corpus.published.archives import JoinedFiles, LocalArchive
from xvectors.corpus.published.layout import Archive
from xvectors.corpus.published.unpacking import unpack
from xvectors.errors import ManifestError, StorageError

PARTS = [f"vox1_dev_wav_part{part}" for part in ("aa", "ab", "ac", "ad")]
FILES = sounds([f"a/{n}.wav" for n in range(6)])


def local(path: Path, content: bytes) -> LocalArchive:
    path.write_bytes(content)
    return LocalArchive(Archive(name=path.name), (path,))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked_from(archive: LocalArchive, target: Path) -> int:
    target.mkdir(exist_ok=True)
    return unpack(archive, target, lambda _: None)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tar_files_of_each_compression(tmp_path: Path, compression: str) -> None:
    archive, done = local(tmp_path / "x.tar", tarred(FILES, compression)), []
    (tmp_path / "out").mkdir()
    assert unpack(archive, tmp_path / "out", done.append) == 6
    assert tree(tmp_path / "out") == FILES
    assert sum(done) == archive.num_bytes


@pytest.mark.parametrize("name", ["../x.wav", "/tmp/x.wav", "a/../../x.wav", "a\\..\\x.wav", "C:/x.wav"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    for make in (tarred, zipped):
        archive = local(tmp_path / "x.archive", make({name: b"x"}))
        with pytest.raises(ManifestError, match="leads out of the folder"):
            unpacked_from(archive, tmp_path / "out")
    assert tree(tmp_path) == {"x.archive": archive.files[0].read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("a/link")
        info.type, info.linkname = kind, "/etc"
        tar.addfile(info)
        inside = tarfile.TarInfo("a/link/x.wav")
        tar.addfile(inside, io.BytesIO())
    with pytest.raises(ManifestError, match=r"x\.tar\.gz: is not unpacked: a/link is a link or device"):
        unpacked_from(local(tmp_path / "x.tar.gz", out.getvalue()), tmp_path / "out")
    assert not tree(tmp_path / "out")


def test_links_in_zip_files_are_refused_and_junk_is_skipped(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("__MACOSX/a/._1.wav", b"junk")
        archive.writestr("a/.DS_Store", b"junk")
        archive.writestr("a/1.wav", b"sound")
        kept = out.getvalue()
        link = zipfile.ZipInfo("a/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    with pytest.raises(ManifestError, match="a/link is a link or device"):
        unpacked_from(local(tmp_path / "x.zip", out.getvalue()), tmp_path / "out")
    assert len(kept) > 0
    assert tree(tmp_path / "out") == {"a/1.wav": b"sound"}


def test_every_cut_is_noticed_and_the_whole_continues(tmp_path: Path) -> None:
    """Also where a tar file is cut between two files, which Python's tarfile takes for its end."""
    for kind, content in (("tar", tarred(FILES, "")), ("tar.gz", tarred(FILES)), ("zip", zipped(FILES))):
        out = tmp_path / kind
        end = len(content) if kind != "tar" else len(content.rstrip(b"\0"))
        for cut in [*range(600, end - 1, end // 5), *range(512, end - 1, 512 * 14)]:
            with pytest.raises(ManifestError, match=r"is damaged or incomplete|not an archive"):
                unpacked_from(local(tmp_path / "x", content[:cut]), out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
        assert unpacked_from(local(tmp_path / "x", content), out) == 6
        assert tree(out) == FILES
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    for make in (tarred, zipped):
        content = bytearray(make(FILES))
        content[len(content) // 2] ^= 0xFF
        with pytest.raises(ManifestError, match="is damaged or incomplete"):
            unpacked_from(local(tmp_path / "x", bytes(content)), tmp_path / "out")
    with pytest.raises(ManifestError, match="not an archive"):
        unpacked_from(local(tmp_path / "x", b"<html>Please log in</html>" * 99), tmp_path / "out")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    source = tmp_path / "downloads"
    source.mkdir()
    in_parts(source, PARTS, zipped(vox1_dev()))
    kept = (source / PARTS[3]).read_bytes()
    (source / PARTS[3]).unlink()
    with pytest.raises(ManifestError, match=r"part vox1_dev_wav_partad of vox1_dev_wav\.zip missing"):
        prepare("voxceleb", [source], tmp_path / "out", hashes=False)
    (source / PARTS[3]).write_bytes(kept)
    in_parts(source, ["mine.zip.001", "mine.zip.002", "mine.zip.003"], zipped(vox1_test()))
    assert len(prepare("voxceleb", [source / "mine.zip.002"], tmp_path / "out", hashes=False).manifest) == 8
    (source / "mine.zip.002").unlink()
    with pytest.raises(ManifestError, match=r"part mine\.zip\.002 of mine\.zip missing"):
        prepare("voxceleb", [source / "mine.zip.001"], tmp_path / "other", hashes=False)


def test_joined_files_are_read_as_one(tmp_path: Path) -> None:
    whole = os.urandom(1000)
    in_parts(tmp_path, ["aa", "ab", "ac"], whole)
    with io.BufferedReader(JoinedFiles([tmp_path / name for name in ("aa", "ab", "ac")]), 64) as joined:
        for at, size in ((0, 1000), (330, 10), (700, 400), (999, 1), (1000, 5)):
            assert joined.seek(at) == at
            assert joined.read(size) == whole[at : at + size]
        assert joined.seek(-3, os.SEEK_END) == 997
        with pytest.raises(ValueError, match="negative"):
            joined.raw.seek(-1)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = unpacked(tmp_path / "downloads", {"vox1_dev_wav.zip": zipped(vox1_dev())})
    out, written, write = tmp_path / "out", [], unpacking._write

    def full_after_three(member: unpacking.Member, temporary: Path) -> None:
        if len(written) == 3:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(member.path)
        write(member, temporary)

    monkeypatch.setattr(unpacking, "_write", full_after_three)
    with pytest.raises(StorageError, match=r"the disk is full.*3 files of it are unpacked and stay.*continues"):
        prepare("voxceleb", [source], out, hashes=False)
    kept = {path: path.stat().st_mtime_ns for path in (out / "recordings").rglob("*") if path.is_file()}
    assert len(kept) == 3
    (source / "vox1_dev_wav.zip").rename(tmp_path / "away.zip")
    with pytest.raises(ManifestError, match=r"vox1_dev_wav\.zip was not unpacked to its end"):
        prepare("voxceleb", [source], out, hashes=False)
    (tmp_path / "away.zip").rename(source / "vox1_dev_wav.zip")
    written.clear()
    monkeypatch.setattr(unpacking, "_write", lambda member, path: (written.append(member.path), write(member, path)))
    assert len(prepare("voxceleb", [source], out, hashes=False).manifest) == 8
    assert len(written) == 5
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = unpacked(tmp_path / "downloads", {"vox1_dev_wav.zip": zipped(vox1_dev())})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"needs at least 0\.0 GB, and 0\.0 GB are free.*Nothing was unpacked"):
        prepare("voxceleb", [source], tmp_path / "out", hashes=False)
    assert not tree(tmp_path / "out" / "recordings")
