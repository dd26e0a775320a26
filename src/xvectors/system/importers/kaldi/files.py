"""Reading Kaldi's vectors, matrices, PLDA and raw nnet3 networks, in text or binary.

The formats are those of Kaldi's src/base/io-funcs, src/matrix, src/ivector/plda.cc and src/nnet3. Sizes that a file
states are compared with its own size before anything is allocated.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import CheckpointError
from xvectors.files import why_no_file

Array = NDArray[np.float64]

MAX_BYTES = 1 << 30
"""Ten times the largest network that can be imported, in text."""
BINARY = b"\0B"
"""Begins every binary file."""
ARRAYS = {b"FV ": ("<f4", 1), b"DV ": ("<f8", 1), b"FM ": ("<f4", 2), b"DM ": ("<f8", 2)}
"""What begins a binary vector or matrix: the type of its values, and its number of axes."""
COMPRESSED = (b"CM ", b"CM2", b"CM3")
TOKEN = re.compile(rb"\s*(\S{1,1000})(?:\s|\Z)")
SOLID = re.compile(rb"\S")
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
AFFINE = ("AffineComponent", "NaturalGradientAffineComponent")
READABLE = (
    *AFFINE,
    *("RectifiedLinearComponent", "BatchNormComponent", "NoOpComponent", "DropoutComponent", "GeneralDropoutComponent"),
    *("StatisticsExtractionComponent", "StatisticsPoolingComponent", "SoftmaxComponent", "LogSoftmaxComponent"),
)
"""Components whose fields are a name and at most one value each, as in all x-vector networks of Kaldi's recipes."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component of a network: the values of its fields by name.

    The methods raise CheckpointError for a field that is missing or of another kind.
    """

    path: Path
    name: str
    """Such as `tdnn1.affine`."""
    kind: str
    """Such as `BatchNormComponent`."""
    fields: Mapping[str, Any]

    def integer(self, field: str) -> int:
        value = self._field(field)
        try:
            return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) else int(value)
        except (ValueError, TypeError):
            self._wrong(field, "a whole number")

    def number(self, field: str) -> float:
        value = self._field(field)
        try:
            number = struct.unpack("<f" if len(value) == 4 else "<d", value)[0] if isinstance(value, bytes) else value
            if math.isfinite(number := float(number)):
                return number
        except (ValueError, TypeError):
            pass
        self._wrong(field, "a number")

    def flag(self, field: str) -> bool:
        value = self._field(field)
        if value not in ("T", "F"):
            self._wrong(field, "T or F")
        return bool(value == "T")

    def array(self, field: str, axes: int) -> Array:
        """Return a vector (`axes` 1) or matrix (`axes` 2), float64."""
        value = self._field(field)
        if not isinstance(value, np.ndarray) or value.ndim != axes:
            self._wrong(field, "a vector" if axes == 1 else "a matrix")
        if not is_usable(value):
            self._wrong(field, "free of NaN and infinity")
        return value

    def _field(self, field: str) -> Any:
        if self.fields.get(field) is None:
            raise CheckpointError(f"{self.path}: {self.name} has no <{field}>; the file is damaged")
        return self.fields[field]

    def _wrong(self, field: str, expected: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: <{field}> of {self.name} is not {expected}; the file is damaged")


@dataclass(frozen=True, kw_only=True)
class Nnet3:
    """A raw nnet3 network: the lines that describe its graph, and its components by name."""

    path: Path
    lines: tuple[str, ...]
    components: Mapping[str, Component]


@dataclass(frozen=True, kw_only=True)
class KaldiPlda:
    """A PLDA of Kaldi: (x - mean) @ transform.T has covariance I within speakers, and diag(psi) between them."""

    mean: Array
    """[D]"""
    transform: Array
    """[D, D]"""
    psi: Array
    """[D]"""


def is_nnet3(path: Path) -> bool:
    """Whether a file begins as a raw nnet3 network does."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.removeprefix(BINARY).lstrip().startswith(b"<Nnet3>")


def read_nnet3(path: Path) -> Nnet3:
    """Read a network such as `final.raw`, as `nnet3-copy` writes it with or without `--binary=false`.

    Raises CheckpointError for a file that is missing, cut off or damaged, and for a component that no x-vector of
    Kaldi's recipes has.
    """
    reader = _Reader(path)
    reader.expect("<Nnet3>", "the network")
    lines = reader.lines_to_blank("the lines that describe its graph")
    reader.expect("<NumComponents>", "the number of its components")
    components = {}
    for number in range(reader.integer("the number of its components")):
        reader.expect("<ComponentName>", f"component {number + 1}")
        name = reader.token("the name of a component")
        components[name] = reader.component(name)
    reader.expect("</Nnet3>", "the end of the network")
    return Nnet3(path=path, lines=tuple(line.strip() for line in lines if line.strip()), components=components)


def read_plda(path: Path) -> KaldiPlda:
    """Read the output of ivector-compute-plda. Raises CheckpointError for a missing, damaged or inconsistent file."""
    reader = _Reader(path)
    reader.expect("<Plda>", "the PLDA")
    mean, transform, psi = (reader.array(name, axes) for name, axes in (("mean", 1), ("transform", 2), ("psi", 1)))
    reader.expect("</Plda>", "the end of the PLDA")
    if not len(mean) or transform.shape != (len(mean),) * 2 or psi.shape != mean.shape:
        raise CheckpointError(
            f"{path}: a PLDA of shapes mean {list(mean.shape)}, transform {list(transform.shape)} and psi "
            f"{list(psi.shape)}, where [D], [D, D] and [D] are expected; the file is damaged"
        )
    if not all(is_usable(part) for part in (mean, transform, psi)) or (psi < 0).any():
        raise CheckpointError(f"{path}: the PLDA holds NaN, infinity or a negative psi; the file is damaged")
    return KaldiPlda(mean=mean, transform=transform, psi=psi)


def read_array(path: Path, axes: int) -> Array:
    """Read a vector (`axes` 1) or matrix (`axes` 2), float64. Raises CheckpointError for any other file."""
    array = _Reader(path).array("values", axes)
    if not array.size or not is_usable(array):
        raise CheckpointError(f"{path}: holds no values, or NaN or infinity; the file is damaged")
    return array


def is_usable(array: Array) -> bool:
    """Whether all values are finite in float32 too."""
    return bool((np.abs(array) <= np.finfo(np.float32).max).all())


class _Reader:
    """Reads a file from start to end; in every method, `what` says what is read."""

    def __init__(self, path: Path) -> None:
        if why := why_no_file(path):
            raise CheckpointError(f"{path}: {why}; give a file of Kaldi")
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise CheckpointError(f"{path}: has {size:,} bytes, more than any file of an x-vector")
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        self.path, self.data = path, data
        self.binary = data.startswith(BINARY)
        self.at = len(BINARY) if self.binary else 0

    def cut_off(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path}: is cut off after {len(self.data):,} bytes, where {what} should follow; copy it again"
        )

    def damaged(self, what: str, found: object) -> NoReturn:
        raise CheckpointError(
            f"{self.path}: byte {self.at:,} is {found!r}, where {what} should follow; it is damaged, or no such file "
            "of Kaldi"
        )

    def token(self, what: str) -> str:
        match = TOKEN.match(self.data, self.at)
        if match is None:
            if not self.data[self.at : self.at + 1000].strip():
                self.cut_off(what)
            self.damaged(what, self.data[self.at : self.at + 10])
        self.at = match.end()
        return match[1].decode("utf-8", "replace")

    def expect(self, token: str, what: str) -> None:
        start = self.at
        found = self.token(f"{token} of {what}")
        if found != token:
            if self.at == len(self.data) and token.startswith(found):
                self.cut_off(what)
            self.at = start
            self.damaged(f"{token} of {what}", found[:40])

    def lines_to_blank(self, what: str) -> list[str]:
        match = BLANK_LINE.search(self.data, self.at)
        if match is None:
            self.cut_off(what)
        text = self.data[self.at : match.start()].decode("utf-8", "replace")
        self.at = match.end()
        return text.splitlines()

    def raw(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            self.cut_off(what)
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, what: str) -> int:
        if not self.binary:
            text = self.token(what)
            if not re.fullmatch(r"[+-]?\d{1,18}", text):
                self.damaged(what, text[:40])
            return int(text)
        if (size := self.raw(1, what)) != b"\4":
            self.damaged(what, size)
        return int.from_bytes(self.raw(4, what), "little", signed=True)

    def array(self, what: str, axes: int | None = None) -> Array:
        """Read a vector or matrix, float64; of `axes` axes, where that is given."""
        array = self._binary_array(what) if self.binary else self._text_array(what)
        if axes == 2 and not self.binary and array.size and array.ndim == 1:
            array = array[None]  # a single row in one line
        if axes is not None and array.ndim != axes:
            raise CheckpointError(
                f"{self.path}: {what} has the shape {list(array.shape)}, where a {'vector' if axes == 1 else 'matrix'} "
                "is expected; it is another file"
            )
        return array

    def _binary_array(self, what: str) -> Array:
        mark = self.raw(3, what)
        if mark in COMPRESSED:
            raise CheckpointError(f"{self.path}: {what} is compressed; rewrite it with copy-matrix --compress=false")
        if mark not in ARRAYS:
            self.damaged(what, mark)
        dtype, axes = ARRAYS[mark]
        shape = [self.integer(f"the size of {what}") for _ in range(axes)]
        if min(shape) < 0:
            self.damaged(f"the size of {what}", shape)
        size, left = math.prod(shape) * np.dtype(dtype).itemsize, len(self.data) - self.at
        if size > left:
            self.cut_off(f"{what} of shape {shape} with {size:,} bytes ({left:,} are there)")
        with np.errstate(invalid="ignore"):  # about NaN, which `is_usable` finds
            values = np.frombuffer(self.data, dtype, math.prod(shape), self.at).reshape(shape).astype(np.float64)
        self.at += size
        return values

    def _text_array(self, what: str) -> Array:
        self.expect("[", what)
        self.at -= 1  # a line break after the bracket tells a matrix from a vector
        end = self.data.find(b"]", self.at)
        if end < 0:
            self.cut_off(f"the end of {what}")
        body = self.data[self.at : end]
        try:
            rows = [np.array(line.split(), dtype=np.float64) for line in body.splitlines() if line.strip()]
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {what} is damaged: {error}") from error
        if len({len(row) for row in rows}) > 1:
            raise CheckpointError(f"{self.path}: the rows of {what} have different lengths; it is damaged")
        self.at = end + 1
        if not rows:
            return np.empty(0)
        return np.stack(rows) if not body.splitlines()[0].strip() else np.concatenate(rows)

    def component(self, name: str) -> Component:
        """Read a component up to its closing token."""
        opening = self.token(f"the kind of {name}")
        kind = opening.removeprefix("<").removesuffix(">")
        if opening != f"<{kind}>" or not kind.endswith("Component"):
            self.damaged(f"the kind of {name}", opening[:40])
        if kind not in READABLE:
            raise CheckpointError(
                f"{self.path}: {name} is a {kind}; only x-vectors of affine layers, ReLU, BatchNorm and statistics "
                "pooling, as in Kaldi's recipes, can be imported"
            )
        fields: dict[str, Any] = {}
        while (token := self.token(f"a field of {name}")) != f"</{kind}>":
            if not re.fullmatch(r"<\w+>", token):
                if self.at == len(self.data):
                    self.cut_off(f"the rest of {name}")
                self.damaged(f"a field of {name}", token[:40])
            fields[token[1:-1]] = self._value(f"{token} of {name}")
        return Component(path=self.path, name=name, kind=kind, fields=fields)

    def _value(self, what: str) -> Any:
        """Read the value of a field: an array, "T" or "F", a number as the file has it; None where a token follows."""
        if not self.binary:
            solid = SOLID.search(self.data, self.at)
            if solid is None:
                self.cut_off(what)
            if solid[0] == b"<":
                return None
            return self.array(what) if solid[0] == b"[" else self.token(what)
        start = self.data[self.at : self.at + 1]
        if start == b"<":
            return None
        if start in (b"\4", b"\10"):
            return self.raw(1 + start[0], what)[1:]
        if self.data[self.at : self.at + 3] in (*ARRAYS, *COMPRESSED):
            return self.array(what)
        flag = self.raw(1, what)
        if flag not in (b"T", b"F"):
            self.damaged(what, flag)
        return flag.decode()
