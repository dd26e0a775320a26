"""Turn recordings into embeddings: `SpeakerEncoder` takes paths, waveforms or a manifest.

It reads and cuts recordings itself; an engine (`xvectors.encoder.engines`) computes the embeddings. torch is imported
only when a system directory is loaded.
"""

from xvectors.audio.recording import Recording
from xvectors.encoder.encoder import SpeakerEncoder
from xvectors.encoder.engines import Engine
from xvectors.encoder.results import Embedded, save_embeddings
from xvectors.encoder.sources import MAX_WHOLE_S, separate_rows
from xvectors.encoder.windows import Windows, WindowStream

__all__ = [
    "MAX_WHOLE_S",
    "Embedded",
    "Engine",
    "Recording",
    "SpeakerEncoder",
    "WindowStream",
    "Windows",
    "save_embeddings",
    "separate_rows",
]
