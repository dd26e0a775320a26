"""A gallery on a PostgreSQL server with pgvector, for several machines or more speakers than fit into memory.

address.py reads the URL; connection.py connects, and explains errors; store.py keeps the voiceprints; shortlist.py and
search.py find the nearest speakers. Needs psycopg and pgvector (extra `postgres`).
"""

from xvectors.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__, search="IndexSearch", shortlist="IndexShortlist", store="PostgresStore"
)
