"""Where traffic is and where it grows: pure. Forecasts and placement will live here too."""

from isochrone.demand.rates import ArrivalRates

__all__ = ["ArrivalRates"]
