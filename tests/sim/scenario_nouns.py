"""A small scenario, and others made of it."""

from isochrone.sim.scenario.files import changed, read_scenario
from isochrone.sim.scenario.settings import Scenario

SMALL = """
duration_s = 10
[nodes]
count = 4
hardware = { h100-80gb-x4 = 1 }
[traffic]
rho = 0.5
models = ["llama2-70b"]
"""


def small(**changes: object) -> Scenario:
    return changed(
        read_scenario(SMALL, "small.toml"), {key.replace("__", "."): each for key, each in changes.items()}
    )
