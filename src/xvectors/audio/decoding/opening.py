"""Open a sound file with the decoder that can read it, and check that it is whole.

A file that lacks a tenth of a second or more of its stated length, or states an impossible one, is an error.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import BinaryIO, TypeAlias, cast

import soundfile

from xvectors.audio.decoding import containers
from xvectors.audio.decoding.containers import HEAD_BYTES, Layout, Part
from xvectors.audio.decoding.libsndfile import JoinedSound, LibsndfileSound
from xvectors.audio.decoding.media import INSTALL, MediaSound
from xvectors.audio.decoding.spliced import Spliced
from xvectors.audio.sound import FileKey, Sound
from xvectors.errors import AudioFileError, EmptyFileError, MissingExtraError, MissingFileError, TruncatedFileError
from xvectors.files.tars import read_member, split_member

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

MIN_RATE_HZ, MAX_RATE_HZ = 2_000, 1_000_000
MAX_FRAMES_PER_BYTE = 2048
"""Upper bound for a whole file. Silence reaches 420 in FLAC with frames of the usual length, and 1,440 in Opus."""
KEPT_S = 0.1
"""A file that lacks less than this of its stated length is read, with a note."""
MIN_KEPT_BYTES, LAYOUTS_KEPT = 1 << 20, 10_000
_layouts: dict[FileKey, Layout] = {}


@contextmanager
def opened(source: Source) -> Iterator[Sound]:
    """Open a recording for decoding. Raises AudioFileError or a subclass, MissingExtraError."""
    with ExitStack() as stack:
        file, name, size, key = _binary(source, stack)
        if size == 0:
            raise EmptyFileError(f"{name}: the file is empty (0 bytes); replace it or take it out of the corpus")
        head = file.read(HEAD_BYTES)
        layout = _layout(file, head, size, name, key)
        sound = _sound(file, head, size, name, layout, key)
        stack.enter_context(closing(sound))
        sound.key = key
        _check(sound, size, layout)
        yield sound


def _sound(file: BinaryIO, head: bytes, size: int, name: str, layout: Layout, key: FileKey | None) -> Sound:
    if not layout.parts:
        return _media(file, name, layout, key)
    try:
        sound = _by_libsndfile(file, size, name, layout)
        if sound is not None:
            return sound
        error, reason = None, "libsndfile finds another length in it than its frames hold"
    except soundfile.LibsndfileError as failure:
        error, reason = failure, failure.error_string.rstrip(".")
    refused = f"{name}: not a sound file that can be read ({reason}); check the file, or convert it to WAV or FLAC"
    if not containers.may_be_foreign(head):
        raise AudioFileError(refused) from error
    try:
        return _media(file, name, layout, key)
    except MissingExtraError:
        raise AudioFileError(
            f"{name}: not a sound file that libsndfile can read ({reason}); FFmpeg may: {INSTALL}. Or check the file, "
            "or convert it to WAV or FLAC"
        ) from error
    except TruncatedFileError:
        raise
    except AudioFileError:
        raise AudioFileError(refused) from error


def _by_libsndfile(file: BinaryIO, size: int, name: str, layout: Layout) -> Sound | None:
    """Open with libsndfile; None if it finds another length than the frames of the streams state."""
    with ExitStack() as unfinished:
        sounds = list[LibsndfileSound]()
        for part in layout.parts:
            is_whole = part.pieces == ((0, size),)
            is_raw = is_whole and not isinstance(file, io.BytesIO)
            content = file if is_whole else cast(BinaryIO, Spliced(file, part.pieces))
            sound = LibsndfileSound(content, name, is_raw=is_raw, last_samples=part.last_samples)
            sounds.append(unfinished.enter_context(closing(sound)))
            if not _agrees(sound, part):
                return None
        joined = sounds[0] if len(sounds) == 1 else JoinedSound(sounds, name)
        unfinished.pop_all()
        return joined


def _agrees(sound: LibsndfileSound, part: Part) -> bool:
    """Whether libsndfile finds as many samples as the frames of the stream state."""
    found = sound.info.num_frames
    return 0 <= found < 1 << 62 and (part.num_samples is None or 0 <= part.num_samples - found <= part.tolerance)


def _media(file: BinaryIO, name: str, layout: Layout, key: FileKey | None) -> MediaSound:
    file.seek(0)
    source = file.read() if isinstance(file, io.BytesIO) else name
    expected = sum(part.num_samples - part.tolerance for part in layout.parts if part.num_samples is not None)
    return MediaSound(source, name, states_length=layout.states_length, key=key, least_samples=expected)


def _check(sound: Sound, size: int, layout: Layout) -> None:
    """Raise errors for impossible headers, and add notes about what is missing at the end."""
    info, name, notes = sound.info, sound.name, list(layout.notes)
    if not MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
        raise AudioFileError(
            f"{name}: its header states a sample rate of {info.sample_rate_hz} Hz; rates from {MIN_RATE_HZ:,} to "
            f"{MAX_RATE_HZ:,} Hz are read; correct the header or replace the file"
        )
    if info.num_frames > MAX_FRAMES_PER_BYTE * size:
        raise AudioFileError(
            f"{name}: its header states {info.num_frames} samples per channel in {size} bytes, more than "
            f"{MAX_FRAMES_PER_BYTE} a byte; the file is damaged, replace it"
        )
    missing_s = layout.missing * info.duration_s
    if missing_s >= KEPT_S or (layout.missing and not info.num_frames):
        raise TruncatedFileError(
            f"{name}: truncated: its header states {layout.stated}, {layout.there} are there; replace the file"
        )
    if info.num_frames == 0:
        raise EmptyFileError(f"{name}: holds no samples; replace it or take it out of the corpus")
    if layout.missing:
        notes.append(f"its header states {missing_s * 1000:.2g} ms more than there is")
    if info.format in containers.UNCHECKED:
        notes.append(f"whether its end is there cannot be checked in {info.format} files; WAV or FLAC say so")
    if notes:
        sound.info = replace(info, notes=(*info.notes, *notes))


def _layout(file: BinaryIO, head: bytes, size: int, name: str, key: FileKey | None) -> Layout:
    """Return the layout, cached for files, because finding it may take reading the whole file."""
    if key is not None and key in _layouts:
        return _layouts[key]
    layout = containers.inspect(file, head, size, name)
    if key is not None and size > MIN_KEPT_BYTES:
        if len(_layouts) >= LAYOUTS_KEPT:
            _layouts.clear()
        _layouts[key] = layout
    return layout


def _binary(source: Source, stack: ExitStack) -> tuple[BinaryIO, str, int, FileKey | None]:
    """Open `source`: a binary file at its start, what to call it, its size in bytes, its key."""
    if isinstance(source, bytes):
        return io.BytesIO(source), "<bytes>", len(source), None
    if not isinstance(source, str | os.PathLike):
        content = source.read()
        return io.BytesIO(content), str(getattr(source, "name", "<file object>")), len(content), None
    name = os.fspath(source)
    try:
        status = os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"{name}: is a folder, not a recording")
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{name}: is a pipe or device, not a file; write the sound to a file first")
        # Unbuffered: libsndfile goes on with the same descriptor.
        key = os.path.abspath(name), status.st_size, status.st_mtime_ns
        return stack.enter_context(open(name, "rb", buffering=0)), name, status.st_size, key
    except (FileNotFoundError, NotADirectoryError) as error:
        if inside := split_member(name):
            content = _member(name, *inside)
            return io.BytesIO(content), name, len(content), None
        if "://" in name:
            raise MissingFileError(f"{name}: is an address, not a file; download it and give the file") from error
        raise MissingFileError(f"{name}: no such file; check the path and the folder it is relative to") from error
    except AudioFileError:
        raise
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{name!r}: cannot be opened ({error}); check its name and permissions") from error


def _member(name: str, tar: str, member: str) -> bytes:
    """Return the bytes of a recording in a tar file."""
    try:
        return read_member(tar, member)
    except KeyError as error:
        raise MissingFileError(f"{name}: {tar} holds no {member}; check the path, or pack the corpus again") from error
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{name}: cannot be read ({error}); pack the corpus again") from error
