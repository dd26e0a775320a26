"""Read and write audio, as float32 mono in [-1, 1); this package alone uses soundfile, soxr and PyAV.

Sources are paths, bytes or binary files in all formats of libsndfile and, with the extra `media`, of FFmpeg. libsndfile
shortens damaged files silently; here a file with less audio than its header states is an error in every format.
"""

from xvectors.audio.channels import Canceled as Canceled
from xvectors.audio.channels import Channel as Channel
from xvectors.audio.channels import as_channel as as_channel
from xvectors.audio.decoding.opening import Source as Source
from xvectors.audio.io import (
    blocks as blocks,
)
from xvectors.audio.io import (
    canceled as canceled,
)
from xvectors.audio.io import (
    probe as probe,
)
from xvectors.audio.io import (
    read as read,
)
from xvectors.audio.io import (
    segment as segment,
)
from xvectors.audio.io import (
    stream as stream,
)
from xvectors.audio.resampling import Resampler as Resampler
from xvectors.audio.resampling import resample as resample
from xvectors.audio.sound import AudioInfo as AudioInfo
from xvectors.audio.sound import Samples as Samples
from xvectors.audio.writing import encode_decode as encode_decode
from xvectors.audio.writing import encode_flac as encode_flac
from xvectors.audio.writing import write as write
