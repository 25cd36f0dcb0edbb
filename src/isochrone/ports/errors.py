"""The families of errors, by whose fault it is. Each message says what, where and what to do next."""


class IsochroneError(Exception):
    """Any error of ours that a person may read; its text is one clear sentence or two."""


class SettingError(IsochroneError):
    """A setting, an option or a file given by the user is wrong. The user's fault; nothing was changed."""


class StoreError(IsochroneError):
    """A model could not be fetched, did not have the digest promised, or the disk failed."""


class EngineError(IsochroneError):
    """An inference engine could not be started or reached, or ended by itself."""


class UpstreamError(IsochroneError):
    """The HTTP peer that we called refused, broke off, stalled or did not speak HTTP/1.1."""


class BusError(IsochroneError):
    """The message bus is not reachable now. Work goes on without it; the adapter reconnects by itself."""
