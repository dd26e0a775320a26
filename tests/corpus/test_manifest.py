"""Manifests: every spelling of a table that makes sense is read, every other is refused with its line."""

from __future__ import annotations

import math
import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xvectors.corpus import NO_SPLIT, TEST, TRAIN, VAL, Manifest, PackedStrings, Utterance
from xvectors.errors import ManifestError, StorageError
from xvectors.files import tables


def written(folder: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes) -> Manifest:
    """Read a table by pyarrow and by `csv`, with the same result."""
    path = written(folder, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BULK_BYTES", 0)
        in_bulk = Manifest.read_csv(path)
    manifest = Manifest.read_csv(path)
    assert same(manifest, in_bulk)
    return manifest


def test_every_known_column(tmp_path: Path) -> None:
    manifest = read(
        tmp_path,
        "path,speaker,gender,age,session,duration_s,start_s,split,id,room\n"
        "b/1.wav,bob,m,30,v1,2.5,,train,u1,hall\n"
        "a/1.wav,ann,F,,v1,,1.25,val,u2,\n"
        "b/2.wav,bob,unknown,31.5,,3,0,,u3,attic\n"
        "c/1.wav,cas,1,nan,v0,1,0,test,u4,\n",
    )
    assert len(manifest) == 4
    assert manifest.speakers == ("ann", "bob", "cas")
    assert manifest.speaker_index.tolist() == [1, 0, 1, 2]
    assert manifest.speaker_index.dtype == np.int32
    assert manifest.gender.tolist() == [0, 1, -1, 1]
    assert manifest.gender.dtype == np.int8
    np.testing.assert_array_equal(manifest.age, np.array([30, np.nan, 31.5, np.nan], np.float32))
    assert manifest.age.dtype == np.float32
    assert manifest.sessions == ("v0", "v1")
    assert manifest.session_index.tolist() == [1, 1, -1, 0]
    np.testing.assert_array_equal(manifest.duration_s, [2.5, np.nan, 3.0, 1.0])
    assert manifest.start_s.tolist() == [0.0, 1.25, 0.0, 0.0]
    assert manifest.split.tolist() == [TRAIN, VAL, NO_SPLIT, TEST]
    assert list(manifest.id) == ["u1", "u2", "u3", "u4"]
    assert {name: list(column) for name, column in manifest.extra.items()} == {"room": ["hall", "", "attic", ""]}
    assert manifest.root == tmp_path
    assert manifest.full_path(1) == tmp_path / "a" / "1.wav"
    assert manifest.row(0) == Utterance(
        id="u1", path=tmp_path / "b" / "1.wav", speaker="bob", gender=0, age=30.0, session="v1",
        start_s=0.0, duration_s=2.5, split=TRAIN,
    )  # fmt: skip
    assert manifest.row(2).session is None
    assert math.isnan(manifest.row(1).duration_s)


@pytest.mark.parametrize(
    "header",
    [
        "path,speaker,sex,age",
        "FILE,Speaker_ID,Gender,speaker_age",
        "filename,spk_id,gender,spk_age",
        "filepath , spk , Sex , Age",
        "wav,VoxCeleb_ID,gender,age",
        "audio,VoxCeleb1 ID,gender,age",
        "audio_path,VoxCeleb2 ID,gender,age",
        "storage_path,ID,gender,age",
    ],
)
def test_aliases(tmp_path: Path, header: str) -> None:
    manifest = read(tmp_path, f"{header}\nx.wav, s1 , female , 20 \n")
    assert (manifest.path[0], manifest.speakers, manifest.gender[0], manifest.age[0]) == (
        "x.wav",
        ("s1",),
        1,
        20,
    )
    assert not manifest.extra


def test_id_names_the_utterance_beside_a_speaker_column(tmp_path: Path) -> None:
    manifest = read(tmp_path, "id,path,spk\nu1,x.wav,s1\n")
    assert (manifest.id[0], manifest.speakers) == ("u1", ("s1",))


@pytest.mark.parametrize(
    ("cell", "gender"),
    [("m", 0), ("Male", 0), ("0", 0), ("f", 1), ("FEMALE", 1), ("1", 1), ("", -1), ("nan", -1), ("-1", -1)],
)
def test_genders(tmp_path: Path, cell: str, gender: int) -> None:
    assert read(tmp_path, f"path,speaker,gender\nx.wav,s,{cell}\n").gender.tolist() == [gender]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,speaker,age\r\na b.wav,s,20\r\n",
        b"path;speaker;age\na b.wav;s;20\n",
        b"path\tspeaker\tage\na b.wav\ts\t20",
        b'"path", "speaker", "age"\n"a b.wav", "s", "20"\n',
        b"\n\npath,speaker,age\n\na b.wav,s,20\n\n\n",
        b"path,speaker,age\ra b.wav,s,20\r",
    ],
    ids=["BOM and CRLF", "semicolons", "tabs", "quotes", "blank lines", "CR alone"],
)
def test_dialects(tmp_path: Path, text: bytes) -> None:
    manifest = read(tmp_path, text)
    assert (list(manifest.path), manifest.speakers, manifest.age.tolist()) == (["a b.wav"], ("s",), [20.0])


def test_quoted_separators_and_line_breaks(tmp_path: Path) -> None:
    manifest = read(tmp_path, 'path,speaker,note\n"a,b.wav","O""Hara","two\nlines"\nc.wav,s,"é, ü"\n')
    assert list(manifest.path) == ["a,b.wav", "c.wav"]
    assert manifest.speakers == ('O"Hara', "s")
    assert list(manifest.extra["note"]) == ["two\nlines", "é, ü"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.csv: is empty"),
        ("\n \n", "m.csv: is empty"),
        ("path,speaker\n", "m.csv: lists no recording"),
        ("name,age\nx,1\n", r"says 'path'; name one of them path, file, .*\(columns found: 'name', 'age'\)"),
        ("path,age\nx,1\n", "no column says 'speaker'; .*spk_id.* or ID"),
        ("path,file,spk\na,b,c\n", "'path' and 'file' both mean 'path'; .*found: 'path', 'file', 'spk'"),
        ("path,spk,speaker_id\na,b,c\n", "columns 'spk' and 'speaker_id' both mean 'speaker'"),
        ("path,spk\na,b\nc\nd,e\n", "m.csv: line 3 has 1 cells, the header has 2"),
        ("path,spk\na,b\nc,d,e\n", "m.csv: line 3 has 3 cells"),
        ("path,spk,g\n\n\"a\nb\",s,x\nc,d\n", "m.csv: line 5 has 2 cells"),
        ("path,spk,split\na,b,dev\n", "m.csv: line 2: split 'dev' means training in some corpora"),
        ("path,spk,split\na,b,7\n", "m.csv: line 2: split '7' is not known"),
        ("path,spk\n,b\n", "m.csv: line 2: path is empty"),
        ("path,spk\na,b\nc, \n", "m.csv: line 3: speaker is empty"),
        ("path,spk,id\na,b,u\nc,d,v\ne,f,u\n", "m.csv: line 4: id 'u' is already used .*line 2"),
        ('path,spk\n"a,b\nc,d\n', "m.csv: line 3: unexpected end of data; check the quotes"),
        ('path,spk\n"a"x,b\n', "m.csv: line 2: .* check the quotes"),
        (b"path,spk\na,b\nc\xe9,d\n", "m.csv: line 3 is not UTF-8 text"),
        ("path,spk\na,b\n".encode("utf-16"), "m.csv: line 1 is not UTF-8 text"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,spk,gender\na,b,m\nc,d,x\n", "m.csv: line 3: 1 cell of 'gender' .*gender 'x' is not known; write m, f"),
        ("path,spk,age\na,b,\nc,d,-4\n", "m.csv: line 3: 1 cell of 'age' .*age -4 cannot be"),
        ("path,spk,age\na,b,1987\n", "m.csv: line 2: .*age 1987 is above 130 years; .*not a year of birth"),
        ("path,spk,age\na,b,old\nc,d,young\n", "m.csv: line 2: 2 cells of 'age' .*age 'old' is not a number"),
        ("path,spk,dur\na,b,1.0\nc,d,3:20\n", "m.csv: line 3: 1 cell of 'dur' .*duration_s '3:20' is not a number"),
        ("path,spk,dur\na,b,inf\n", "m.csv: line 2: 1 cell of 'dur' .*duration_s inf cannot be"),
    ],
)
def test_what_decides_nothing_is_unknown_where_it_makes_no_sense(
    tmp_path: Path, text: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = read(tmp_path, text).row(-1)
    assert (row.gender, np.isnan(row.age), np.isnan(row.duration_s)) == (-1, True, True)
    assert re.search(message, caplog.text)


def test_a_bad_cell_far_down_is_found_on_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"{i}.wav,s,2{i % 10}\n" for i in range(40_000))
    ages = read(tmp_path, f"path,speaker,age\n{rows}last.wav,s,old\n").age
    assert "m.csv: line 40002: 1 cell of 'age'" in caplog.text
    assert np.isnan(ages).nonzero()[0].tolist() == [40_000]
    with pytest.raises(ManifestError, match="line 40002: split 'x'"):
        read(tmp_path, "path,speaker,split\n" + "".join(f"{i},s,train\n" for i in range(40_000)) + "a,b,x\n")


def test_columns_nobody_understands_never_stop_a_table(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,spk,x,x,,\na,b,1,2,3,4\n")
    assert {name: list(column) for name, column in manifest.extra.items()} == {
        "x": ["1"],
        "x (4)": ["2"],
        "column 5": ["3"],
        "column 6": ["4"],
    }


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.csv: no such file"):
        Manifest.read_csv(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("words", "splits", "kept"),
    [
        (("train", "test"), [TRAIN, TEST], False),
        (("train", ""), [TRAIN, NO_SPLIT], False),
        (("dev", "test"), [NO_SPLIT, NO_SPLIT], True),
        (("test", "test"), [NO_SPLIT, NO_SPLIT], True),
    ],
)
def test_a_set_column_is_our_split_only_where_it_says_so(
    tmp_path: Path, words: tuple[str, str], splits: list[int], kept: bool
) -> None:
    manifest = read(tmp_path, f"path,speaker,Set\na.wav,s,{words[0]}\nb.wav,t,{words[1]}\n")
    assert manifest.split.tolist() == splits
    assert (list(manifest.extra["Set"]) == list(words)) if kept else ("Set" not in manifest.extra)


def test_default_ids(tmp_path: Path) -> None:
    rows = [
        {"path": "a.b/x.tar.wav", "speaker": "s"},
        {"path": "a.b/noext", "speaker": "s"},
        {"path": "a.b/.hidden", "speaker": "s"},
        {"path": "é/ü.flac", "speaker": "s"},
        {"path": "long.wav", "speaker": "s", "start_s": 5},
        {"path": "long.wav", "speaker": "s", "start_s": 0},
        {"path": ".wav", "speaker": "s"},
    ]
    ids = ["a.b/x.tar", "a.b/noext", "a.b/.hidden", "é/ü", "long#1", "long#0", ".wav"]
    assert list(Manifest.from_rows(rows, tmp_path).id) == ids
    assert list(Manifest.from_rows(rows[::-1], tmp_path).id) == ids[::-1]
    with pytest.raises(ManifestError, match="add a column id"):
        Manifest.from_rows([{"path": p, "speaker": "s"} for p in ("a.wav", "a.mp3", "a#0.wav")])


def test_from_rows_and_row_are_inverse(tmp_path: Path) -> None:
    utterances = [
        Utterance(id="1", path=tmp_path / "a.wav", speaker="x", gender=1, age=4.5, session="q", split=VAL),
        Utterance(id="2", path=tmp_path / "b.wav", speaker="w", duration_s=2.0, start_s=0.5),
    ]
    manifest = Manifest.from_rows(utterances)
    assert str(manifest.row(0)) == str(utterances[0])
    assert str(manifest.row(1)) == str(utterances[1])
    with pytest.raises(ManifestError, match="row 1: split 'z'"):
        Manifest.from_rows([{"path": "a", "speaker": "s", "split": side} for side in ("val", "z")])
    with pytest.raises(ManifestError, match="rows: no column says 'path'"):
        Manifest.from_rows([])


def test_take_compacts(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,speaker,video,room\na,s1,v1,r1\nb,s2,v2,r2\nc,s3,,r3\nd,s2,v3,r4\n")
    taken = manifest.take([3, 2])
    assert list(taken.path) == ["d", "c"]
    assert taken.speakers == ("s2", "s3")
    assert taken.speaker_index.tolist() == [0, 1]
    assert taken.sessions == ("v3",)
    assert taken.session_index.tolist() == [0, -1]
    assert list(taken.extra["room"]) == ["r4", "r3"]
    assert list(manifest.take(np.array([True, False, True, False])).path) == ["a", "c"]
    assert len(manifest.take([])) == 0
    assert manifest.take([]).speakers == ()


def test_with_columns(tmp_path: Path) -> None:
    manifest = read(tmp_path, "path,speaker\na,s\nb,s\n").with_columns(duration_s=[1, 2], split=[TEST, TRAIN])
    assert manifest.duration_s.tolist() == [1.0, 2.0]
    assert manifest.split.dtype == np.int8
    with pytest.raises(ManifestError, match=r"column age: shape \(3,\) does not fit 2 rows"):
        manifest.with_columns(age=[1, 2, 3])


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).map(
    lambda text: text.strip() or "x"
)
numbers = st.none() | st.floats(0, 100, width=32)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "path": cells,
                "speaker": cells,
                "gender": st.sampled_from(["m", "f", ""]),
                "age": numbers,
                "session": st.none() | cells,
                "duration_s": st.none() | st.floats(0, 1e5),
                "start_s": st.floats(0, 1e5),
                "split": st.sampled_from(["train", "val", "test", ""]),
                "note": cells | st.just(""),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_write_and_read_back(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    manifest = Manifest.from_rows([{**row, "id": f"u{number}"} for number, row in enumerate(rows)], tmp_path)
    manifest.write_csv(tmp_path / "out.csv")
    again = Manifest.read_csv(tmp_path / "out.csv")
    assert same(manifest, again)


def same(one: Manifest, other: Manifest) -> bool:
    arrays = ("speaker_index", "gender", "age", "session_index", "duration_s", "start_s", "split")
    for name in arrays:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert (one.speakers, one.sessions) == (other.speakers, other.sessions)
    assert list(one.id) == list(other.id)
    assert {name: list(c) for name, c in one.extra.items()} == {name: list(c) for name, c in other.extra.items()}
    return [one.full_path(i) for i in range(len(one))] == [other.full_path(i) for i in range(len(other))]


def test_written_paths_lead_to_the_same_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [{"path": "s/a.wav", "speaker": "s"}, {"path": str(tmp_path / "far.wav"), "speaker": "t"}]
    manifest = Manifest.from_rows(rows, data)
    for target in (data / "m.csv", tmp_path / "m.csv", tmp_path / "elsewhere" / "deep" / "m.csv"):
        manifest.write_csv(target)
        assert same(manifest, Manifest.read_csv(target))
    manifest.write_csv(tmp_path / "x.csv", relative_to=tmp_path)
    assert (tmp_path / "x.csv").read_text().split("\n")[1] == "data/s/a.wav,s,s/a"
    manifest.write_csv(tmp_path / "y.csv", relative_to=data)
    assert same(manifest, Manifest.read_csv(tmp_path / "y.csv", root=data))
    strange = Manifest.from_rows([{"path": "caf\udce9.wav", "speaker": "s"}])
    with pytest.raises(ManifestError, match="a name is not UTF-8"):
        strange.write_csv(tmp_path / "z.csv")
    with pytest.raises(StorageError, match="cannot be written"):
        manifest.write_csv("/proc/m.csv")
    assert not (tmp_path / "z.csv").exists()


@given(st.lists(st.text(max_size=6)), st.data())
def test_packed_strings_are_a_list_of_strings(strings: list[str], data: st.DataObject) -> None:
    packed = PackedStrings.from_strings(strings)
    assert list(packed) == strings
    assert [packed[i] for i in range(len(packed))] == strings
    indices = data.draw(st.lists(st.integers(0, len(strings) - 1))) if strings else []
    assert list(packed.take(indices)) == [strings[i] for i in indices]
    first = {string: strings.index(string) for string in strings}
    expected = [(first[string], row) for row, string in enumerate(strings) if first[string] != row]
    assert packed.duplicates() == expected
    with pytest.raises(IndexError):
        packed[len(strings)]


@given(st.lists(st.text(st.sampled_from("ab./é"), max_size=8)))
def test_stems_equal_splitext_without_dotfiles(paths: list[str]) -> None:
    def stem(path: str) -> str:
        folder, slash, name = path.rpartition("/")
        return folder + slash + (name[: name.rindex(".")] if "." in name[1:] else name)

    assert list(PackedStrings.from_strings(paths).stems()) == [stem(path) for path in paths]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_processes_share_the_columns(tmp_path: Path) -> None:
    """A forked process reads every row and its private memory hardly grows."""
    rows = "".join(f"s{r // 100}/{r:06d}.wav,s{r // 100},{r % 7}\n" for r in range(100_000))
    manifest = read(tmp_path, "path,speaker,duration_s\n" + rows)
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    process = fork.Process(target=_private_growth, args=(manifest, queue))
    process.start()
    process.join()
    grown_bytes, characters = queue.get()
    assert characters == sum(len(row.split(",")[0]) for row in rows.split())
    assert grown_bytes < 3e6


def _private_growth(manifest: Manifest, queue: multiprocessing.SimpleQueue) -> None:
    def private() -> int:
        with open("/proc/self/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_Dirty"))

    before = private()
    characters = sum(len(manifest.path[row]) for row in range(len(manifest)))
    queue.put((private() - before, characters))
