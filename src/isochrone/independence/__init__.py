"""How independent the nodes really are: pure. What they declare now; what is measured will live here too."""

from isochrone.independence.domains import first_independent

__all__ = ["first_independent"]
