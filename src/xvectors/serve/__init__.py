"""The HTTP service: verify, identify, enroll and forget speakers over JSON or multipart requests (extra `serve`).

app.py builds the application; service.py holds what it serves: the system, the galleries and the worker processes
that decode; routes/ has the endpoints. Decisions are made by `verification.decision` and by the gallery, as in the
commands.
"""

from typing import TYPE_CHECKING

from xvectors.errors import MissingExtraError
from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.serve.app import create_app as create_app
    from xvectors.serve.running import run as run
    from xvectors.serve.settings import Settings as Settings

_public_name, __dir__, __all__ = lazy_names(__name__, app="create_app", running="run", settings="Settings")
_OF_THE_EXTRA = {"fastapi", "starlette", "pydantic", "uvicorn", "python_multipart", "prometheus_client"}


def __getattr__(name: str) -> object:
    try:
        return _public_name(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OF_THE_EXTRA:
            raise
        raise MissingExtraError(
            f"the HTTP service needs {error.name}, which is not installed: pip install 'xvectors[serve]'"
        ) from error
