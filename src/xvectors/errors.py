"""Every error a user's mistake can raise. In: nothing. Out: exceptions whose text names the cause and the remedy.

XVectorsError
├── AudioError (also ValueError)          a recording that cannot be used
│   ├── AudioFileError (also OSError)     ... because its file is unreadable or damaged
│   │   ├── MissingFileError              ... there is no such file
│   │   ├── EmptyFileError                ... it holds no sound at all
│   │   └── TruncatedFileError            ... it holds less sound than its header states
│   └── TooShortError                     ... because it holds too little audio
├── ManifestError (also ValueError)       a corpus description that contradicts itself or lacks something
├── ConfigError (also ValueError)         a setting that does not exist or has an impossible value
├── CheckpointError (also ValueError)     a system directory or checkpoint that cannot be loaded or resumed
├── TrainingError (also RuntimeError)     a run that cannot go on, such as a non-finite loss
├── GalleryError (also ValueError)        a gallery of enrolled speakers that cannot be opened or used
│   └── UnknownSpeakerError               ... because nobody of that name is enrolled
├── ExportError (also RuntimeError)       an exported file that does not compute what its system computes
├── StorageError (also OSError)           nothing could be written: full disk, no permission
│   └── BusyError                         ... because another process is writing it
├── MissingExtraError (also ImportError)  an optional dependency that is not installed
└── ShapeError (also ValueError)          an array of the wrong rank, size or values
"""


class XVectorsError(Exception):
    """Base class: the command line prints these in one line, exit status 2, without a traceback."""


class AudioError(XVectorsError, ValueError):
    """A recording that cannot be used."""


class AudioFileError(AudioError, OSError):
    """A recording whose file is missing, unreadable or damaged."""


class MissingFileError(AudioFileError):
    """There is no such file."""


class EmptyFileError(AudioFileError):
    """The file holds no sound at all."""


class TruncatedFileError(AudioFileError):
    """The file holds less sound than its header states."""


class TooShortError(AudioError):
    """A recording, or a batch of frames, that holds less than the network's context."""


class ManifestError(XVectorsError, ValueError):
    """A corpus description that contradicts itself or lacks something."""


class ConfigError(XVectorsError, ValueError):
    """A setting that does not exist or has an impossible value."""


class CheckpointError(XVectorsError, ValueError):
    """A system directory or checkpoint that cannot be loaded or resumed."""


class TrainingError(XVectorsError, RuntimeError):
    """A training run that cannot go on."""


class GalleryError(XVectorsError, ValueError):
    """A gallery of enrolled speakers that cannot be opened, or that does not hold what was asked for."""


class UnknownSpeakerError(GalleryError):
    """Nobody of that name is enrolled."""


class ExportError(XVectorsError, RuntimeError):
    """An exported file that does not compute what its system computes."""


class StorageError(XVectorsError, OSError):
    """Something could not be written; what stood there before is intact."""


class BusyError(StorageError):
    """Another process is writing the same thing; the text names the process."""


class MissingExtraError(XVectorsError, ImportError):
    """An optional dependency that is not installed; the text names the extra that brings it."""


class ShapeError(XVectorsError, ValueError):
    """An array of the wrong rank or size, or with values that mean nothing there, such as NaN scores."""
