"""Speaker recognition from a folder of recordings: the public names, imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from xvectors.config import Recipe as Recipe
    from xvectors.config import load_recipe as load_recipe
    from xvectors.config import trust as trust
    from xvectors.corpus import Manifest as Manifest
    from xvectors.corpus import open_corpus as open_corpus
    from xvectors.dataset import load_all_data as load_all_data
    from xvectors.encoder import SpeakerEncoder as SpeakerEncoder
    from xvectors.errors import XVectorsError as XVectorsError
    from xvectors.export import export_onnx as export_onnx
    from xvectors.features import Fbank as Fbank
    from xvectors.models import TDNNLayer as TDNNLayer
    from xvectors.models import XVector as XVector
    from xvectors.report import evaluate as evaluate
    from xvectors.training import train as train

_HOME = {
    "Fbank": "features",
    "Manifest": "corpus",
    "Recipe": "config",
    "SpeakerEncoder": "encoder",
    "TDNNLayer": "models",
    "XVector": "models",
    "XVectorsError": "errors",
    "evaluate": "report",
    "export_onnx": "export",
    "load_all_data": "dataset",
    "load_recipe": "config",
    "open_corpus": "corpus",
    "train": "training",
    "trust": "config",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("xvectors")
    if name not in _HOME:
        raise AttributeError(f"module 'xvectors' has no attribute {name!r}")
    return getattr(import_module(f"xvectors.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
