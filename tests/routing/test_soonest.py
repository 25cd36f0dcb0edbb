"""When soonest leaves its own nodes for the rest of the fleet."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from routing_nouns import A_MODEL, A_REQUEST, a_choice, a_node, a_plan, a_view

from isochrone.model import FleetView, Homes, Origin
from isochrone.routing import Router, find_policy, route
from isochrone.routing.estimate import DEFAULT_WEIGHTS, ServiceColumns, typical

LONG = replace(A_REQUEST, prompt_bytes=40_000)
FASTER = replace(A_MODEL, prefill_ms_per_token=1.0, cached_prefix={})


def a_home(prompt_bytes_mean: float, **beliefs) -> FleetView:
    """One node of our own and a stranger that claims to be faster; the level is half a second."""
    nodes = a_node("own", **beliefs), a_node("stranger", FASTER)
    homes = Homes(np.arange(1), {}, {}, 100.0)
    plan = a_plan(2, level_s=0.5, homes=homes)
    return replace(a_view(*nodes), front=(0,), plan=plan, prompt_bytes_mean=prompt_bytes_mean)


def chosen(view: FleetView, request=A_REQUEST) -> tuple[str, Origin | None]:
    decision = route(view, request, Random(1), Router(find_policy("soonest")))
    assert decision.chosen is not None
    return decision.chosen.node, decision.origin


def test_a_prompt_longer_than_usual_stays_at_home():
    assert a_choice(a_home(400.0), LONG).score_ms(0) > 2 * 500.0
    assert chosen(a_home(400.0), LONG) == ("own", Origin.OWN)


def test_where_a_usual_prompt_would_have_to_wait_a_long_one_leaves_too():
    assert chosen(a_home(400.0, wait_s=2.0), LONG) == ("stranger", Origin.ALL)


def test_where_a_usual_prompt_would_have_to_wait_it_leaves():
    assert chosen(a_home(400.0, wait_s=2.0)) == ("stranger", Origin.ALL)


def test_where_prompts_are_long_the_level_is_for_those():
    assert chosen(a_home(40_000.0), LONG) == ("stranger", Origin.ALL)


def test_a_short_prompt_that_is_well_served_stays_whatever_a_usual_one_would_meet():
    assert chosen(a_home(40_000.0)) == ("own", Origin.OWN)


def test_the_score_of_a_usual_prompt_is_the_one_that_plans_are_made_from():
    view = a_home(1234.0, wait_s=0.25)
    service = ServiceColumns(view, typical(view, LONG), DEFAULT_WEIGHTS)
    assert a_choice(view, LONG).typical_score_ms(0) == pytest.approx(service.score_ms[0])
