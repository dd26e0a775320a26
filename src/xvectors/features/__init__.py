"""Features of speech: filterbanks and cepstra as Kaldi, SpeechBrain, torchaudio and librosa compute them."""

from xvectors.features.fbank import FRAMES_PER_BLOCK, Fbank
from xvectors.features.framing import WINDOWS
from xvectors.features.mel import MEL_SCALES, TRIANGLES
from xvectors.features.normalization import LEVEL_DBFS, mean_normalize

__all__ = ["FRAMES_PER_BLOCK", "LEVEL_DBFS", "MEL_SCALES", "TRIANGLES", "WINDOWS", "Fbank", "mean_normalize"]
