"""The outside world as Isochrone sees it: protocols to be fulfilled by adapters, and the families of errors.

Nothing here does anything. `gateway` and `nodes` are written against these; `adapters` fulfil them; `cli`
puts the two together; the simulator and tests bring their own.
"""

from isochrone.ports.bus import Bus, Handler
from isochrone.ports.clock import Clock, MonotonicClock
from isochrone.ports.engine import Engine, EngineHost, EngineMetrics
from isochrone.ports.errors import (
    BusError,
    EngineError,
    IsochroneError,
    SettingError,
    StoreError,
    UpstreamError,
)
from isochrone.ports.keys import KeySource, NoKeys
from isochrone.ports.store import Progress, Store, StoredModel

__all__ = [
    "Bus",
    "BusError",
    "Clock",
    "Engine",
    "EngineError",
    "EngineHost",
    "EngineMetrics",
    "Handler",
    "IsochroneError",
    "KeySource",
    "MonotonicClock",
    "NoKeys",
    "Progress",
    "SettingError",
    "Store",
    "StoreError",
    "StoredModel",
    "UpstreamError",
]
