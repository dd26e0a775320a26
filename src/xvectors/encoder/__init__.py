"""Recordings in, embeddings out. In: a system, and paths, waveforms or a manifest. Out: float32 vectors, with times
where windows are asked for.

encoder.py holds SpeakerEncoder, sources.py reads what it is given, windows.py cuts it, results.py saves what comes out.
What computes is an engine (engine.py): torch_engine.py is the one that runs a system directory, and the only module
here that imports torch, when it is asked for.
"""

from xvectors.encoder.encoder import SpeakerEncoder
from xvectors.encoder.engine import Engine
from xvectors.encoder.results import Embedded, save_embeddings
from xvectors.encoder.sources import LONGEST_WHOLE_S, Recording, separate_rows
from xvectors.encoder.windows import Windows, WindowStream

__all__ = [
    "LONGEST_WHOLE_S",
    "Embedded",
    "Engine",
    "Recording",
    "SpeakerEncoder",
    "WindowStream",
    "Windows",
    "save_embeddings",
    "separate_rows",
]
