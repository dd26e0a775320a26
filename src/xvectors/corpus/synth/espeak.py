"""Call espeak-ng through ctypes, with samples that depend on voice, sentence and seed alone.

espeak-ng keeps state between sentences that no call resets (its flutter table, gain control and noise generators).
Loading the library again for every sentence, which takes a quarter of a millisecond, resets it.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xvectors.errors import ConfigError, MissingExtraError, StorageError, XVectorsError

ACCENTS = {  # our name for the accent -> its language file in espeak-ng's data
    "en-us": "en-US",
    "en-us-nyc": "en-US-nyc",
    "en-gb": "en",
    "en-gb-rp": "en-GB-x-rp",
    "en-gb-scotland": "en-GB-scotland",
    "en-gb-lancaster": "en-GB-x-gbclan",
    "en-gb-midlands": "en-GB-x-gbcwmd",
    "en-caribbean": "en-029",
}

_PHONEME_DATA = ("phontab", "phonindex", "phondata", "intonations", "en_dict")
_VOICE_FILE = "voices/!v/speaker"
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8, _RATE, _VOLUME = 2, 0x8000, 1, 1, 2
_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The synthesizer. Use one per process; it is not thread-safe.

    `folder` is a private scratch folder, which receives a copy of the English data (0.8 MB) and the current voice file.
    Raises MissingExtraError without espeakng-loader, StorageError if `folder` cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._library_path, data = locate()
        self._home = folder / "espeak-ng-data"
        try:
            (self._home / "lang").mkdir(parents=True, exist_ok=True)
            (self._home / _VOICE_FILE).parent.mkdir(parents=True, exist_ok=True)
            for name in _PHONEME_DATA:
                shutil.copyfile(data / name, self._home / name)
            for accent, name in ACCENTS.items():
                shutil.copyfile(data / "lang" / "gmw" / name, self._home / "lang" / accent)
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot copy espeak-ng's data there: {error.strerror or error}; "
                "set TMPDIR to a folder with a few free megabytes"
            ) from error

    def speak(
        self, text: str, *, voice: str, accent: str, words_per_minute: int, seed: int
    ) -> tuple[npt.NDArray[np.float32], int]:
        """Speak `text` with the voice file `voice`. Returns float32 [samples] within ±1, and the rate in Hz."""
        try:
            (self._home / _VOICE_FILE).write_text(voice, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{self._home}: cannot write a voice file: {error.strerror or error}") from error

        chunks: list[bytes] = []

        def on_samples(samples: int | None, count: int, _events: int | None) -> int:
            if samples and count > 0:
                chunks.append(ctypes.string_at(samples, 2 * count))
            return 0

        callback = _ON_SAMPLES(on_samples)
        if _is_loaded(self._library_path):
            raise XVectorsError(
                "espeak-ng stays loaded in this process (another package uses it, or this system never "
                "unloads a library), so that what it says would depend on what it said before; "
                "make synthetic voices in a process of their own, on Linux with glibc or macOS"
            )
        library = ctypes.CDLL(self._library_path)
        try:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, bytes(self._home.parent), _DO_NOT_EXIT)
            if rate <= 0:
                raise ConfigError(f"{self._home}: espeak-ng cannot open its data there; set TMPDIR to a shorter path")
            library.espeak_SetSynthCallback(callback)
            # initialization seeds the generator of the library from the clock; other noise comes from libc
            library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            ctypes.CDLL(None).srand(ctypes.c_uint(seed))
            encoded = text.encode() + b"\0"
            statuses = (
                library.espeak_SetVoiceByName(f"{accent}+{Path(_VOICE_FILE).name}".encode()),
                library.espeak_SetParameter(_RATE, words_per_minute, 0),
                # far below the default of 100, where gain control pumps on loud voices
                library.espeak_SetParameter(_VOLUME, 20, 0),
                library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, _UTF8, None, None),
                library.espeak_Synchronize(),
            )
            library.espeak_Terminate()
        finally:
            _ctypes.dlclose(library._handle)
        if any(statuses) or not chunks:
            raise XVectorsError(f"espeak-ng failed on {text!r} (statuses {statuses}, accent {accent!r})")
        samples = np.frombuffer(b"".join(chunks), dtype=np.int16).astype(np.float32)
        return samples * np.float32(1 / 32768), int(rate)


def _is_loaded(library_path: str) -> bool:
    try:
        handle = ctypes.CDLL(library_path, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    _ctypes.dlclose(handle._handle)
    return True


def locate() -> tuple[str, Path]:
    """Return the paths of the espeak-ng library and its data, from the wheel espeakng-loader."""
    if sys.platform == "win32":
        raise ConfigError("synthetic voices need Linux or macOS: on Windows, run it under WSL")
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingExtraError(
            "synthetic voices need espeak-ng, which is not installed: pip install 'xvectors[synth]'"
        ) from error
    return str(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
