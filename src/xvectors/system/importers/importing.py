"""Import a published model: find it, recognize it, convert it, and write it as a system directory."""

from __future__ import annotations

import datetime
import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xvectors.config import Recipe, recipe_to_mapping
from xvectors.errors import CheckpointError, ConfigError, StorageError
from xvectors.files import atomic_write, digest, exclusive, user_folder
from xvectors.models import Backbone
from xvectors.system.folder import ONNX_SUFFIX, WEIGHTS_SUFFIXES, SystemFolder
from xvectors.system.importers import onnx
from xvectors.system.importers.checkpoint import read_checkpoint
from xvectors.system.importers.families import FAMILIES
from xvectors.system.importers.family import Family, Imported, Source
from xvectors.system.importers.known import Card, find_card
from xvectors.system.importers.parity import check_parity
from xvectors.system.importers.sources import FILES_READ, WAIT_S, Found, find_source
from xvectors.system.serialization import ONNX, load_state, make_features, make_model, write_description, write_weights
from xvectors.text import count, first_few, nearest
from xvectors.verification import Verifier, save_verifier
from xvectors.verification.fingerprint import embedding_settings, fingerprint, weights_digest
from xvectors.verification.verifier import IMPORTED

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model in our terms, with the family it was recognized as."""

    family: Family
    source: Source
    imported: Imported
    notes: tuple[str, ...]


def import_model(
    source: str | Path,
    output: str | Path,
    *,
    family: str | None = None,
    sha256: str | None = None,
    check: bool = False,
    features: Sequence[str] = (),
) -> SystemFolder:
    """Import a published model as a system directory, calibrated if the package ships a calibration for this very file.

    Parameters
    ----------
    source
        A file, a folder, hf://owner/name or hf://owner/name@revision (extra `hub`), or an https address.
    output
        The system directory to write, which must not hold a system yet.
    family
        Name of the family, where it cannot be recognized by the tensors.
    sha256
        The digest that the file must have.
    check
        Compare eight embeddings with those of the toolkit's own code, where it is installed.
    features
        For an .onnx file: `wespeaker`, `3d-speaker` or `kaldi`, and settings as key=value; by default as its metadata
        state.

    Raises
    ------
    CheckpointError
        The source cannot be read or downloaded, is of no known family, or lacks tensors, each of which is named.
    ConfigError
        `family` is unknown.
    StorageError
        The directory cannot be written.
    """
    folder = SystemFolder(Path(output))
    if folder.description.is_file():
        raise CheckpointError(f"{folder.path} holds a system already; give another directory")
    there = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not there.is_dir():
        raise StorageError(f"{there}: is a file; give a directory to write the system to")
    found = find_source(source, sha256)
    _import(found, folder, family, sha256, check, features)
    return folder


def import_to_cache(source: str | Path) -> SystemFolder:
    """Import a published model into the user's cache, or return what an earlier call imported.

    Raises CheckpointError as `import_model` does, StorageError where the cache cannot be written.
    """
    found = find_source(source)
    beside = [path for name in FILES_READ if (path := found.path.parent / name).is_file()]
    digests = [digest(path) for path in (found.path, *beside)]
    key = hashlib.sha256(" ".join((*digests, metadata.version("xvectors"))).encode()).hexdigest()[:16]
    folder = SystemFolder(user_folder("cache") / "imported" / f"{found.path.stem}-{key}")
    with exclusive(folder.lock, of=str(folder.path), wait_s=WAIT_S):
        if not folder.description.is_file():
            _import(found, folder)
    return folder


def _import(
    found: Found,
    folder: SystemFolder,
    family: str | None = None,
    sha256: str | None = None,
    check: bool = False,
    features: Sequence[str] = (),
) -> None:
    given = found.archive or found.path
    file_sha256 = digest(given)
    if sha256 is not None and sha256.lower() != file_sha256:
        raise CheckpointError(f"{given}: its sha256 is {file_sha256}, not {sha256}; it is another file")
    converted = convert(found.path, family, features)
    recipe = Recipe(
        name=converted.family.name,
        description=f"imported: {converted.family.title}",
        features=converted.imported.features,
        model=converted.imported.model,
    )
    card = find_card(file_sha256)
    origin = _origin(converted, found, file_sha256, card)
    if recipe.model.name == ONNX:
        with _whole_or_nothing(folder):
            with atomic_write(folder.network) as temporary:
                shutil.copyfile(found.path, temporary)
            write_description(folder, recipe, (), origin)
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(recipe, 0)
    weights = complete(model, converted.imported.weights, str(found.path))
    if check:
        origin["parity"] = check_parity(
            converted.family, converted.source, recipe, model, make_features(recipe)
        ).as_table()
    if not converted.family.seen:
        logger.warning(
            "%s: the layout of %s was reconstructed from its code; no weights that its publisher trained were compared",
            found.path,
            converted.family.title,
        )
    for note in converted.notes:
        logger.warning("%s: %s", found.path, note)
    settings = embedding_settings({"recipe": recipe_to_mapping(recipe)}, str(folder.description))
    verifier = None
    if converted.imported.backend is not None:
        verifier = Verifier(backend=converted.imported.backend, name=IMPORTED)
    elif card is not None and card.fits(settings):
        verifier = card.verifier(settings)
        origin["calibration"] = dict(card.calibration)
    with _whole_or_nothing(folder):
        write_weights(folder, weights, epoch=0)
        if verifier is not None:
            own = fingerprint(settings, weights_digest(folder.weights))
            save_verifier(verifier, backend=folder.backend, calibration=folder.calibration, fingerprint=own)
        write_description(folder, recipe, (), origin)


@contextmanager
def _whole_or_nothing(folder: SystemFolder) -> Iterator[None]:
    """Remove the files of a system that could not be written to its end, as on a full disk."""
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in (folder.network, folder.weights, folder.calibration, folder.backend, folder.speakers):
            with suppress(OSError):  # the error that began it is the one to tell
                path.unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # it is not empty, or was not made
                path.rmdir()
        raise


def convert(path: Path, family: str | None = None, features: Sequence[str] = ()) -> Conversion:
    """Recognize a model file and convert it, without writing anything; arguments and errors of `import_model`."""
    if path.suffix.lower() == ONNX_SUFFIX and family in (None, onnx.FAMILY.name):
        imported = onnx.convert_onnx(path, features)
        source = Source(path=path, tensors={})
        return Conversion(family=onnx.FAMILY, source=source, imported=imported, notes=imported.notes)
    if features:
        raise ConfigError(f"{path}: --features is for .onnx files; the features of other models are known")
    chosen = None if family is None else _named(family)
    if path.suffix.lower() in WEIGHTS_SUFFIXES if chosen is None else chosen.is_checkpoint:
        checkpoint = read_checkpoint(path)
        source = Source(path=path, tensors=checkpoint.tensors, extras=checkpoint.extras)
        notes = checkpoint.notes
    else:
        source, notes = Source(path=path, tensors={}), ()
    chosen = chosen or _recognized(source)
    imported = chosen.convert(source)
    return Conversion(family=chosen, source=source, imported=imported, notes=(*notes, *imported.notes))


def complete(model: Backbone, weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Add what an imported model lacks and its embedding does not need.

    The class layer becomes zeros, since it is replaced in training. Layers between embedding and classes, and counters
    of BatchNorm, are those of `model`, which has just been built: of zeros, they could never learn.

    Raises CheckpointError, naming the tensors, where the embedding needs others.
    """
    own = model.state_dict()
    needed = used_by_embedding(model)
    extra = {
        key: torch.zeros_like(value) if key.startswith("classifier.") else value
        for key, value in own.items()
        if key not in needed and key not in weights
    }
    full = {**weights, **extra}
    load_state(model, full, source)
    return full


def used_by_embedding(model: Backbone) -> set[str]:
    """Return the names of the state that embeddings depend on."""
    shadow = model.eval()
    shadow.zero_grad()
    frames = torch.zeros(1, model.context_frames + 1, model.input_dim)
    torch.autograd.backward(shadow.embed(frames).sum())
    used = {name for name, parameter in shadow.named_parameters() if parameter.grad is not None}
    shadow.zero_grad()
    modules = {name.rpartition(".")[0] for name in used}
    for name, module in shadow.named_modules():
        # a BatchNorm without weights counts with the module that holds it
        if isinstance(module, torch.nn.BatchNorm1d) and (name in modules or not module.affine):
            used |= {f"{name}.running_mean", f"{name}.running_var"}
    return used


def _named(name: str) -> Family:
    known = {family.name: family for family in FAMILIES}
    if name not in known:
        raise ConfigError(f"unknown family {name!r}{nearest(name, known)}; known are {', '.join(known)}")
    return known[name]


def _recognized(source: Source) -> Family:
    found = [family for family in FAMILIES if family.matches(source)]
    if found:
        return found[0]
    raise CheckpointError(f"{source.path}: {_looks_like(source)}; tried {', '.join(each.name for each in FAMILIES)}")


def _looks_like(source: Source) -> str:
    if not source.tensors:
        return "is not a file of weights that is known here"
    shapes = [list(tensor.shape) for tensor in source.tensors.values()]
    if len(shapes) <= 2 and max(len(shape) for shape in shapes) == 2:
        return (
            f"holds a single layer, {first_few(source.tensors, 2)} of shape {max(shapes, key=len)}, perhaps the "
            "classes of a model; give the file of the network that makes embeddings"
        )
    return (
        f"is of no known family: it holds {count(len(shapes), 'tensor')} such as {first_few(source.tensors, 4)}; if it "
        "is one of them under other names, give --family"
    )


def _origin(converted: Conversion, found: Found, sha256: str, card: Card | None) -> dict[str, Any]:
    """The table [origin] of system.toml."""
    table: dict[str, Any] = {
        "family": converted.family.name,
        "title": converted.family.title,
        "source": found.address,
        "file": (found.archive or found.path).name,
        "sha256": sha256,
        "imported": datetime.date.today().isoformat(),
        "published_weights_seen": converted.family.seen,
    }
    table |= {key: value for key, value in (("revision", found.revision), ("license", found.license)) if value}
    if card is not None and not found.license:
        table |= {"license": card.license, "license_source": card.license_source}
    if converted.notes:
        table["notes"] = list(converted.notes)
    if figures := {**converted.imported.figures, **(card.figures if card else {})}:
        table["figures"] = figures
    return table
