"""What objects print: their sizes, not their contents."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch

import xvectors
from xvectors import SpeakerEncoder, open_corpus
from xvectors.gallery import SqliteStore, open_gallery
from xvectors.text import abbreviated, short_repr
from xvectors.trials import all_pairs

PUBLIC = [
    importlib.import_module(f"xvectors.{each.name}")
    for each in pkgutil.iter_modules(xvectors.__path__)
    if each.name not in ("__main__", "cli") and each.ispkg
]
ARRAYS = ("NDArray", "Tensor", "Samples", "Manifest")


def public_classes() -> set[type]:
    """The classes that a package of ours exports, without errors, enumerations and protocols."""
    found = {
        getattr(module, name)
        for module in [xvectors, *PUBLIC]
        for name in getattr(module, "__all__", ())
        if inspect.isclass(getattr(module, name))
    }
    return {cls for cls in found if not (issubclass(cls, Exception | enum.Enum) or getattr(cls, "_is_protocol", False))}


@pytest.mark.parametrize("cls", sorted(public_classes(), key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_no_public_class_prints_an_address_or_an_array(cls: type) -> None:
    assert cls.__repr__ is not object.__repr__, "<... object at 0x...>"
    if dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"):
        held = [
            name for name, kind in inspect.get_annotations(cls).items() if any(word in str(kind) for word in ARRAYS)
        ]
        written = cls.__repr__.__qualname__
        by_dataclass = "__create_fn__" in written or written == f"{cls.__name__}.__repr__"
        assert not held or "brief" in written or not by_dataclass or cls.__name__ == "Manifest", f"prints {held}"


def test_values_in_brief() -> None:
    assert abbreviated(np.zeros((1000, 512), np.float32)) == "float32 [1000, 512]"
    assert abbreviated(torch.zeros(3, dtype=torch.int64)) == "int64 [3]"
    assert abbreviated(["x"] * 12_345) == "[12,345 items]"
    assert abbreviated(("a", "b")) == "('a', 'b')"
    assert abbreviated(("a",)) == "('a',)"
    assert abbreviated({"a": np.zeros(3)}) == "{'a': float64 [3]}"
    assert abbreviated(dict.fromkeys(range(20))) == "{20 keys}"
    assert abbreviated("x" * 500) == f"'{'x' * 75}...'"

    @short_repr("a", "_b", "gone")
    class Two:
        def __init__(self) -> None:
            self.a, self._b = 1, np.zeros(2)

    assert repr(Two()) == "Two(a=1, b=float64 [2])"


def test_an_encoder_says_what_it_is(tmp_path: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    assert repr(encoder) == (
        "SpeakerEncoder('starter', embedding_dim=128, sample_rate_hz=16000, device='cpu', calibrated=True)"
    )
    copied = tmp_path / "mine"
    copied.mkdir()
    for name in ("system.toml", "speakers.csv", "model.safetensors"):
        (copied / name).write_bytes((encoder.engine.folder.path / name).read_bytes())
    assert repr(SpeakerEncoder.from_pretrained(copied, device="cpu")) == (
        f"SpeakerEncoder({str(copied)!r}, embedding_dim=128, sample_rate_hz=16000, device='cpu', calibrated=False)"
    )
    (copied / "calibration.toml").write_text("damaged")
    assert repr(SpeakerEncoder.from_pretrained(copied, device="cpu")).endswith("calibrated=damaged)")


def test_objects_of_a_session_print_a_line(toy_corpus: Path, tmp_path: Path) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    manifest = open_corpus(toy_corpus)
    assert repr(manifest) == f"Manifest(80 utterances, 10 speakers, root={str(toy_corpus)!r})"
    wave = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10
    windows = encoder.encode_windows(wave)
    assert repr(windows) == "Windows(start_s=float64 [2], end_s=float64 [2], embeddings=float32 [2, 128])"
    trials = all_pairs(np.repeat(np.arange(30), 10))
    with open_gallery(tmp_path / "g.sqlite", system=encoder, create=True) as gallery:
        found = [encoder.engine, encoder.verifier, encoder.listen(wave), encoder.stream(), windows, trials, gallery]
        found += [
            encoder.encode_manifest(manifest, rows=[0, 1]),
            encoder.verify(wave, wave),
            SqliteStore(gallery.store.path),
        ]
        for each in found:
            assert len(repr(each)) < 1200, each
            assert " at 0x" not in repr(each)
            assert "\n" not in repr(each)
        assert f"Gallery(SqliteStore(path={gallery.store.path!r}), system='" in repr(gallery)
