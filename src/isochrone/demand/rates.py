"""Arrival rates of each model, fast and slow, and growth as their ratio."""

from dataclasses import dataclass, field
from math import exp, expm1


@dataclass(slots=True)
class _Window:
    """Arrivals a second under an exponential window, corrected for a window not yet full."""

    memory_s: float
    started_at_s: float
    value: float = 0.0
    at_s: float = 0.0

    def add(self, now_s: float) -> None:
        self.value = self._decayed(now_s) + 1.0 / self.memory_s
        self.at_s = now_s

    def rate(self, now_s: float) -> float:
        filled = -expm1(-max(now_s - self.started_at_s, 1.0) / self.memory_s)
        return self._decayed(now_s) / filled

    def _decayed(self, now_s: float) -> float:
        return self.value * exp(-(now_s - self.at_s) / self.memory_s)


@dataclass(slots=True)
class ArrivalRates:
    """Requests a second of each model.

    Attributes:
        fast_s: time constant of "now".
        slow_s: time constant of "usually".
        models_max: models counted; beyond that the one longest unasked for is forgotten.
    """

    fast_s: float = 10.0
    slow_s: float = 120.0
    models_max: int = 4096
    _windows: dict[str, tuple[_Window, _Window]] = field(default_factory=dict)

    def arrived(self, model: str, now_s: float) -> None:
        """Count one request."""
        windows = self._windows.get(model)
        if windows is None:
            if len(self._windows) >= self.models_max:
                del self._windows[min(self._windows, key=lambda name: self._windows[name][0].at_s)]
            windows = (_Window(self.fast_s, now_s), _Window(self.slow_s, now_s))
            self._windows[model] = windows
        for window in windows:
            window.add(now_s)

    def rate_per_s(self, model: str, now_s: float) -> float:
        """Requests a second now."""
        windows = self._windows.get(model)
        return windows[0].rate(now_s) if windows else 0.0

    def growth(self, model: str, now_s: float) -> float:
        """Rate now over the usual rate: 1 when steady, 2 when it has doubled, 1 when nothing is known."""
        windows = self._windows.get(model)
        usual = windows[1].rate(now_s) if windows else 0.0
        return windows[0].rate(now_s) / usual if windows and usual > 0.0 else 1.0
