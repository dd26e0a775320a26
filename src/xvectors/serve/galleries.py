"""The galleries of the service's tenants, with no way from one to another."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from xvectors.gallery import Gallery, default_gallery, open_store
from xvectors.serve.guarding.keys import DEFAULT_TENANT, tenant_name
from xvectors.verification import Verifier

SERVER_SCHEMA = "xvectors"
"""Schema of a gallery on a server whose URL names none."""


class Galleries:
    """Opens a tenant's gallery when it is first asked for, and keeps it open.

    Parameters
    ----------
    location
        Gallery of the tenant `default`, by default the user's own file. The gallery of another tenant stands in a file
        beside it, with the tenant's name before its suffix; on a server, in a schema that ends with the tenant's name.
    system, verifier
        As in `Gallery`.
    """

    def __init__(self, location: str | Path | None, *, system: str, verifier: Verifier) -> None:
        self.location = location if location is not None else default_gallery()
        self._system, self._verifier = system, verifier
        self._lock = threading.Lock()
        self._open: dict[str, Gallery] = {}

    def location_of(self, tenant: str) -> str | Path:
        """Return the place of a tenant's gallery."""
        name = tenant_name(tenant)
        if name == DEFAULT_TENANT:
            return self.location
        if isinstance(self.location, str) and "://" in self.location:
            parts = urlsplit(self.location)
            query = dict(parse_qsl(parts.query))
            query["schema"] = f"{query.get('schema', SERVER_SCHEMA)}_{name}"
            return urlunsplit(parts._replace(query=urlencode(query)))
        path = Path(self.location)
        return path.with_name(f"{path.stem}.{name}.sqlite")

    def of(self, tenant: str) -> Gallery:
        """Return a tenant's gallery, and make it if it does not exist. Raises GalleryError, StorageError."""
        with self._lock:
            if tenant in self._open:
                return self._open[tenant]
        store = open_store(self.location_of(tenant), create=True)  # other tenants need not wait for it
        with self._lock:
            if tenant in self._open:
                store.close()
            else:
                self._open[tenant] = Gallery(store, system=self._system, verifier=self._verifier)
            return self._open[tenant]

    def serve(self, *, system: str, verifier: Verifier) -> None:
        """Go on with the embeddings of another system."""
        with self._lock:
            self._system, self._verifier = system, verifier
            self._open = {
                tenant: Gallery(gallery.store, system=system, verifier=verifier)
                for tenant, gallery in self._open.items()
            }

    def purge(self) -> int:
        """Remove expired voiceprints of the galleries that are open, and return their number."""
        with self._lock:
            stores = [gallery.store for gallery in self._open.values()]
        return sum(store.purge(datetime.now(UTC)) for store in stores)

    def close(self) -> None:
        with self._lock:
            for gallery in self._open.values():
                gallery.store.close()
            self._open = {}
