"""Sound files to arrays and back: the one importer of soundfile, soxr and PyAV.

In: paths, bytes or binary files of any format libsndfile reads (and, with the extra `media`, FFmpeg).
Out: float32 mono in [-1, 1) with its rate. libsndfile shortens damaged files without a word, and some whole ones; here
a file that holds less sound than it states is an error, whichever format hides it.
"""

from xvectors.audio.channels import Canceled as Canceled
from xvectors.audio.channels import Channel as Channel
from xvectors.audio.channels import as_channel as as_channel
from xvectors.audio.decoding.opening import Source as Source
from xvectors.audio.io import blocks as blocks
from xvectors.audio.io import canceled as canceled
from xvectors.audio.io import probe as probe
from xvectors.audio.io import read as read
from xvectors.audio.io import segment as segment
from xvectors.audio.io import stream as stream
from xvectors.audio.resampling import Resampler as Resampler
from xvectors.audio.resampling import resample as resample
from xvectors.audio.sound import AudioInfo as AudioInfo
from xvectors.audio.sound import Samples as Samples
from xvectors.audio.writing import encode_decode as encode_decode
from xvectors.audio.writing import write as write
