"""Published corpora as they are downloaded: their archives, layouts, figures, and hashes where these are published.

`layout` says what describes a corpus; one module a corpus fills that in, and `preparing` lists them.
"""

from xvectors.corpus.published.layout import Archive, Found, Layout, Subset, Tree
from xvectors.corpus.published.preparing import LAYOUTS, Prepared, SubsetCount, prepare

__all__ = ["LAYOUTS", "Archive", "Found", "Layout", "Prepared", "Subset", "SubsetCount", "Tree", "prepare"]
