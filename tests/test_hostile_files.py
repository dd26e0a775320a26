"""Files made to do harm: each is refused with a sentence that names it, and no code in them runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from numpy.lib import format as npy

from support.commands import run
from xvectors.backends import load_backend
from xvectors.config import load_recipe
from xvectors.corpus import open_corpus
from xvectors.embeddings import load_embeddings
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.onnx import OnnxEngine
from xvectors.encoder.sharded import DESCRIPTION, DIFFERENCES, read_parts
from xvectors.errors import CheckpointError, ConfigError, GalleryError, ManifestError, XVectorsError
from xvectors.evaluation.system import read_history
from xvectors.files.npz import read_npz
from xvectors.gallery import SqliteStore
from xvectors.models import build_model
from xvectors.system import SystemFolder
from xvectors.system.serialization import read_speakers, write_description, write_weights
from xvectors.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from xvectors.trials.list_files import read_trials
from xvectors.trials.score_files import read_scores

HUGE_TENSOR = b'{"w":{"dtype":"F32","shape":[9999999999999],"data_offsets":[0,4]}}'
CPU = torch.device("cpu")


class Evil:
    """Unpickled, it makes the folder `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def system(tmp_path: Path) -> SystemFolder:
    folder = SystemFolder(tmp_path / "system")
    recipe = load_recipe("xvector", ["model.size=0.05", "model.embedding_dim=8", "features.num_mels=20"])
    write_description(folder, recipe, ["ann", "bob"])
    model = build_model("xvector", num_speakers=2, input_dim=20, size=0.05, embedding_dim=8)
    write_weights(folder, model.state_dict(), 1)
    return folder


def changed(system: SystemFolder, keys: str, value: object) -> None:
    whole = tomllib.loads(system.description.read_text(encoding="utf-8"))
    *above, last = keys.split(".")
    table = whole
    for key in above:
        table = table[key]
    table[last] = value
    system.description.write_text(tomli_w.dumps(whole), encoding="utf-8")


def npy_header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text


def write_npz(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.npy", content)
    return path


def test_the_pickle_of_these_tests_does_run_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_in_a_checkpoint(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": Evil(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        load_checkpoint(path, CPU)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=2))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        load_checkpoint(path, CPU)
    assert not (tmp_path / "ran").exists()


def test_pickles_in_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, embeddings=np.array([[Evil(tmp_path / "ran")]], dtype=object), allow_pickle=True)
    for read in (load_embeddings, load_backend):
        with pytest.raises(CheckpointError, match=r"file\.npz is damaged.*Python objects, which are not read"):
            read(path)
    parts = parts_folder(tmp_path / "parts", "npz")
    path.rename(parts / "part-00000.npz")
    with pytest.raises(CheckpointError, match="Python objects"):
        read_parts(parts)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"bare\.npz is damaged"):
        load_embeddings(tmp_path / "bare.npz")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_a_parquet_file(tmp_path: Path) -> None:
    """In the metadata of an extension type, where pyarrow once unpickled it (CVE-2023-47248)."""
    import pyarrow as pa
    from pyarrow import parquet

    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Evil(tmp_path / "ran")),
    }
    schema = pa.schema([pa.field("id", pa.string(), metadata=metadata)])
    parts = parts_folder(tmp_path / "parts", "parquet")
    parquet.write_table(pa.table({"id": ["x"]}, schema=schema), parts / "part-00000.parquet")
    with pytest.raises(CheckpointError, match=r"part-00000\.parquet is damaged"):
        read_parts(parts)
    assert not (tmp_path / "ran").exists()


def parts_folder(folder: Path, part_format: str, **claims: Any) -> Path:
    folder.mkdir()
    claimed = dict.fromkeys(DIFFERENCES, 1) | {"part_format": part_format} | claims
    (folder / DESCRIPTION).write_text(json.dumps(claimed))
    return folder


def test_parquet_files_with_texts_that_are_none(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    offsets, data = pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\x80\xff")
    texts = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0]), 2)
    columns = dict.fromkeys(("id", "path", "speaker"), texts)
    numbers = dict.fromkeys(("gender", "age", "duration_s", "speech_s"), pa.array([1.0]))
    parts = parts_folder(tmp_path / "parts", "parquet")
    for number, vector in enumerate((vectors, pa.array([[1.0, 2.0]]), pa.array(["x"]))):
        held = texts if number == 0 else pa.array(["x"])
        table = pa.table({**dict.fromkeys(columns, held), **numbers, "embedding": vector})
        parquet.write_table(table, parts / "part-00000.parquet")
        with pytest.raises(CheckpointError, match=r"part-00000\.parquet is damaged"):
            read_parts(parts)


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret.bin"])
def test_an_onnx_file_that_points_to_other_files(tmp_path: Path, place: str) -> None:
    """Its weights would be what another file holds, which the embeddings would then tell."""
    onnx = pytest.importorskip("onnx", reason="not installed; pip install 'xvectors[onnx]'")
    pytest.importorskip("onnxruntime", reason="not installed; pip install 'xvectors[onnx]'")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (tmp_path / "folder").mkdir()
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    kind = onnx.helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, [4])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [4])
    node = onnx.helper.make_node("Add", ["waveform", "w"], ["out"])
    graph = onnx.helper.make_graph([node], "g", [kind], [out], initializer=[weight])
    path = tmp_path / "folder" / "model.onnx"
    path.write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    with pytest.raises(CheckpointError, match=r"model\.onnx.*(other files|damaged)"):
        OnnxEngine(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy_header("(1000000000000,)"), r"0 bytes where its shape \[1000000000000\] needs 4,000,000,000,000"),
        (npy_header("(-4,)") + bytes(16), "shape"),
        (npy_header("(4,)") + bytes(15), "needs 16"),
        (npy_header("(4,)", "'|O'") + bytes(32), "Python objects"),
        (npy_header("(" + "(" * 3000), ""),
        (npy_header("(4,)", "'<f4" + "x" * 30000 + "'"), ""),
        (b"no array", ""),
    ],
)
def test_arrays_that_are_none(tmp_path: Path, content: bytes, reason: str) -> None:
    path = write_npz(tmp_path / "file.npz", "embeddings", content)
    with pytest.raises(CheckpointError, match=rf"file\.npz is damaged or not an embeddings file: .*{reason}"):
        load_embeddings(path)


def test_a_zip_bomb(tmp_path: Path) -> None:
    """100 kB of deflated zeros that would fill 100 MB, in an array of the right size."""
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, embeddings=np.zeros((100_000, 256), np.float32))
    assert path.stat().st_size < 150_000
    with pytest.raises(CheckpointError, match=r"bomb\.npz is damaged.*bytes unpack to 102,"):
        load_embeddings(path)


def test_npz_files_of_all_kinds_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    arrays = {
        "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
        "by_columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "texts": np.array(["a", "Björn"]),
        "none": np.empty((0, 4), np.float32),
        "scalar": np.array("text"),
        "truths": np.array([True, False]),
        "other_end": np.arange(3, dtype=">i4"),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read_npz(path)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    found["floats"][0, 0] = 7  # as from numpy, it may be written


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100_000_000) + b"{}",
        struct.pack("<Q", 30_000) + b"[" * 30_000,
        struct.pack("<Q", 70) + HUGE_TENSOR.ljust(70) + bytes(4),
        b"",
        b"\x80\x04.",
    ],
)  # fmt: skip
def test_safetensors_with_absurd_headers(system: SystemFolder, content: bytes) -> None:
    system.weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged, or not a safetensors file"):
        SpeakerEncoder.from_pretrained(system.path, device="cpu")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features.sample_rate_hz", 10**9),
        ("features.sample_rate_hz", 10**30),
        ("features.num_mels", 10**9),
        ("features.frame_length_ms", 1e9),
        ("features.frame_length_ms", 1e300),
        ("features.frame_shift_ms", 1e300),
        ("model.size", 1e9),
        ("model.size", 1e300),
        ("model.size", float("inf")),
        ("model.size", float("nan")),
        ("model.size", 100.0),
        ("model.depth", 10**9),
        ("model.embedding_dim", 60_000),
        ("model.embedding_dim", 10**9),
        ("model.embedding_dim", 10**30),
    ],
)
def test_a_system_that_claims_to_be_huge(system: SystemFolder, key: str, value: float) -> None:
    """Refused before memory is taken for it: what the network would need ended in an error of the allocator."""
    changed(system, f"recipe.{key}", value)
    with pytest.raises(XVectorsError) as refused:
        SpeakerEncoder.from_pretrained(system.path, device="cpu")
    assert isinstance(refused.value, CheckpointError | ConfigError)
    assert not isinstance(refused.value.__cause__, MemoryError)
    assert key.partition(".")[2] in str(refused.value) or "does not fit" in str(refused.value)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "{a=" * 100_000, "x = " + "9" * 5000, "a." * 50_000])
def test_toml_that_no_parser_stands(system: SystemFolder, tmp_path: Path, text: str) -> None:
    system.description.write_text(text)
    with pytest.raises(ConfigError, match=r"system\.toml: not valid TOML"):
        SpeakerEncoder.from_pretrained(system.path, device="cpu")
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"recipe\.toml: not valid TOML"):
        load_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    "line", ['{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", '{"path": "\\ud800", "speaker": "a"}']
)
def test_json_that_no_parser_stands(tmp_path: Path, line: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(line)
    with pytest.raises(ManifestError, match=r"manifest\.jsonl: line 1 "):
        open_corpus(path)


def test_descriptions_of_parts_that_claim_anything(tmp_path: Path) -> None:
    count = 10**15
    with pytest.raises(CheckpointError, match=rf"lacks {count} of its {count} parts, such as part-00000\.npz"):
        read_parts(parts_folder(tmp_path / "many", "npz", num_rows=count))
    for number, claims in enumerate(({"num_rows": "1"}, {"rows_per_part": 0}, {"num_rows": -1}, {"num_rows": True})):
        with pytest.raises(CheckpointError, match=r"_embedding\.json is damaged"):
            read_parts(parts_folder(tmp_path / str(number), "npz", **claims))
    folder = parts_folder(tmp_path / "path", "../../x" * 50)
    with pytest.raises(CheckpointError, match=r"_embedding\.json is damaged"):
        read_parts(folder)
    (folder / DESCRIPTION).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"_embedding\.json cannot be read"):
        read_parts(folder)


def test_a_checkpoint_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(Checkpoint(model={}, optimizer={}, history=5), path)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"damaged and cannot be resumed from: history"):
        load_checkpoint(path, CPU)
    path.write_bytes(b"\x80\x02.")  # instructions that end before they began
    with pytest.raises(CheckpointError, match="damaged and cannot be resumed from"):
        load_checkpoint(path, CPU)


def test_cells_that_are_too_long_and_rows_that_are_too_short(tmp_path: Path) -> None:
    path = tmp_path / "speakers.csv"
    for text in ("index,speaker\n0,ann\n1\n", f"index,speaker\n0,{'a' * 200_000}\n", 'index,speaker\n0,"ann\n', "x\n"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"speakers\.csv is damaged"):
            read_speakers(path)
    path.write_text(f"epoch,loss\n1,{'9' * 200_000}\n")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_history(path)


def test_long_messages_are_cut_where_they_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(f"a.wav b.wav {'x' * 100_000}\n")
    said = run("score", tmp_path / "none.npz", "--trials", path, "-o", tmp_path / "s.txt", status=2).stderr
    assert len(said) < 2500


def test_names_of_thousands_of_characters(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"utt1 {'a' * 5000}.wav\n")
    (tmp_path / "utt2spk").write_text("utt1 ann\n")
    assert len(open_corpus(tmp_path)) == 1  # that there is no such file is for the scan to say
    (tmp_path / "recipe.toml").write_text(f'base = "{"a" * 5000}"\n')
    with pytest.raises(ConfigError, match="is not a recipe"):
        load_recipe(tmp_path / "recipe.toml")


def test_a_gallery_of_a_negative_version(tmp_path: Path) -> None:
    path = tmp_path / "gallery.sqlite"
    SqliteStore(path, create=True).close()
    content = bytearray(path.read_bytes())
    content[60:64] = struct.pack(">i", -5)  # https://www.sqlite.org/fileformat.html, user version
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"gallery\.sqlite: the gallery is damaged \(schema -5\)"):
        SqliteStore(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipes_are_refused_at_once(system: SystemFolder, tmp_path: Path) -> None:
    """Opening one waits for a writer; and what comes from one can be read once only, which lost lines silently."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    readers: list[Callable[[Path], object]] = [read_trials, read_scores, load_embeddings, load_backend, open_corpus]
    for read in readers:
        with pytest.raises(XVectorsError, match="pipe"):
            read(pipe)
    with pytest.raises(GalleryError, match="pipe"):
        SqliteStore(pipe)
    for file in (system.description, system.weights, system.speakers):
        whole = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(CheckpointError, match=str(system.path)):
            SpeakerEncoder.from_pretrained(system.path, device="cpu")
        file.unlink()
        file.write_bytes(whole)
    (tmp_path / "kaldi").mkdir()
    os.mkfifo(tmp_path / "kaldi" / "utt2spk")
    (tmp_path / "kaldi" / "wav.scp").write_text("a a.wav\n")
    with pytest.raises(ManifestError, match="utt2spk"):
        open_corpus(tmp_path / "kaldi")


def test_links_that_lead_in_circles(system: SystemFolder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "ann").mkdir(parents=True)
    (data / "ann" / "a.wav").write_bytes(b"RIFF")
    (data / "ann" / "again").symlink_to(data, target_is_directory=True)
    (data / "ann" / "self.wav").symlink_to("self.wav")
    assert [path for path in open_corpus(data).path if path.endswith("a.wav")] == ["ann/a.wav"]
    system.description.unlink()
    system.description.symlink_to("system.toml")
    with pytest.raises(CheckpointError, match=r"holds no system\.toml"):
        SpeakerEncoder.from_pretrained(system.path, device="cpu")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ManifestError, match="loop"):
        read_trials(tmp_path / "loop")


def test_names_with_escapes_reach_no_terminal(tmp_path: Path) -> None:
    """Neither from a file nor from the command line; a line cannot be forged."""
    name = "a\x1b[2Jb\x9b31m\u202etxt\nOK: verified"
    path = tmp_path / "scores.txt"
    path.write_text("a b 1 \x1b[2J\u202e\n")
    for arguments in (("evaluate", "--scores", path), ("verify", tmp_path / name, tmp_path / name)):
        printed = run(*arguments, status=2)
        assert not set(printed.stderr + printed.stdout) & set("\x1b\x9b\u202e")
        assert not any(line.startswith("OK") for line in (printed.stderr + printed.stdout).splitlines())
