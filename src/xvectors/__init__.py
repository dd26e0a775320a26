"""Speaker recognition from a folder of recordings: the public names, imported when first used."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    __version__: str
    from xvectors.config import Recipe as Recipe
    from xvectors.config import load_recipe as load_recipe
    from xvectors.config import trust as trust
    from xvectors.corpus import Manifest as Manifest
    from xvectors.corpus import open_corpus as open_corpus
    from xvectors.dataset import load_all_data as load_all_data
    from xvectors.diarization import Diarizer as Diarizer
    from xvectors.encoder import SpeakerEncoder as SpeakerEncoder
    from xvectors.errors import XVectorsError as XVectorsError
    from xvectors.export import export_onnx as export_onnx
    from xvectors.features import Fbank as Fbank
    from xvectors.models import TDNNLayer as TDNNLayer
    from xvectors.models import XVector as XVector
    from xvectors.report import evaluate as evaluate
    from xvectors.training import train as train

_public_name, _, __all__ = lazy_names(
    __name__,
    config="Recipe load_recipe trust",
    corpus="Manifest open_corpus",
    dataset="load_all_data",
    diarization="Diarizer",
    encoder="SpeakerEncoder",
    errors="XVectorsError",
    export="export_onnx",
    features="Fbank",
    models="TDNNLayer XVector",
    report="evaluate",
    training="train",
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("xvectors")
    return _public_name(name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
