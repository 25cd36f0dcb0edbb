"""How hypothesis runs: never on the clock, and the same examples every time where CI runs it."""

import os

from hypothesis import settings

settings.register_profile("isochrone", deadline=None)
settings.register_profile("isochrone-ci", settings.get_profile("isochrone"), derandomize=True)
settings.load_profile("isochrone-ci" if os.environ.get("CI") else "isochrone")
