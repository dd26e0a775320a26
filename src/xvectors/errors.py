"""All errors that a user's mistake can raise; their messages name the cause and the remedy.

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
│   ├── UnknownSpeakerError               ... because no speaker of that name is enrolled
│   └── UnavailableError                  ... because its server does not answer, or is busy for too long
├── ExportError (also RuntimeError)       an exported file that does not compute what its system computes
├── StorageError (also OSError)           a file that cannot be written: full disk, no permission
│   └── BusyError                         ... because another process is writing it
├── MissingExtraError (also ImportError)  an optional dependency that is not installed
├── ServiceError (also RuntimeError)      a service that refuses, fails or cannot be reached
└── ShapeError (also ValueError)          an array of the wrong rank, size or values
"""


class XVectorsError(Exception):
    """Base class. The command line prints these errors in one line, without a traceback, and exits with status 2."""


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
    """A gallery of enrolled speakers that cannot be opened or used."""


class UnknownSpeakerError(GalleryError):
    """No speaker of that name is enrolled."""


class UnavailableError(GalleryError):
    """The gallery's server does not answer, or is busy for too long; the same call may succeed later."""


class ExportError(XVectorsError, RuntimeError):
    """An exported file that does not compute what its system computes."""


class StorageError(XVectorsError, OSError):
    """A file that cannot be written. An existing file is intact."""


class BusyError(StorageError):
    """Another process is writing the same file; the message names it."""


class MissingExtraError(XVectorsError, ImportError):
    """An optional dependency that is not installed; the message names its extra."""


class ServiceError(XVectorsError, RuntimeError):
    """A service that refuses a request, fails or cannot be reached.

    Attributes
    ----------
    status : HTTP status of its answer; None if it did not answer
    kind : kind of the problem, such as `unknown-speaker`; empty where the service did not name one
    request_id : identifies the request in the service's logs; empty where there is no answer
    """

    def __init__(self, message: str, *, status: int | None = None, kind: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status, self.kind, self.request_id = status, kind, request_id


class ShapeError(XVectorsError, ValueError):
    """An array of the wrong rank or size, or with invalid values such as NaN scores."""
