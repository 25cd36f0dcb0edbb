"""Our own OpenAPI document: what it says is what the gateway checks with."""

import json
import re

import pytest

from isochrone.wire import BadRequestError, openai, openapi, subjects
from isochrone.wire.objectives import read_objective

DOCUMENT = json.loads(openapi.openapi_body())
CHAT = DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"]


def test_every_path_has_the_methods_that_it_takes():
    for path, item in DOCUMENT["paths"].items():
        told = {name.upper() for name in item if name != "parameters"}
        assert told == set(openapi.methods_of(re.sub(r"\{\w+\}", "x", path))), path


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/modelsx", "/v1/chat/completions/", "/isochrone/v1/nothing", ""]
)
def test_elsewhere_there_is_nothing(path):
    assert openapi.methods_of(path) == ()


def test_every_path_of_a_gateway_is_told():
    told = set(DOCUMENT["paths"])
    assert {openai.CHAT_PATH, openai.COMPLETIONS_PATH, openai.MODELS_PATH, subjects.STATUS_PATH} <= told
    assert {subjects.CAPACITY_PATH, subjects.DECISIONS_PATH + "{id}", "/openapi.json", "/metrics"} <= told


def test_every_field_that_is_checked_is_told():
    for names, _, _ in openai.FIELD_TYPES:
        assert set(names) <= set(CHAT)
    assert CHAT["seed"]["type"] == ["number", "null"]
    assert CHAT["stop"]["type"] == ["string", "array", "null"]
    assert CHAT["n"]["maximum"] == openai.WHOLE_MAX


TAKEN = "250 37.5 .5 0.5 00.1 1000000000 1000000000.0 0999999999"
REFUSED = "0 0.0 1e3 1000000001 1000000000.1 2000000000 1. -1 +1 1.0000000001 nan 99999999999 ."


@pytest.mark.parametrize("value", ["", *TAKEN.split(), *REFUSED.split()])
def test_milliseconds_are_told_as_they_are_read(value):
    schema = next(
        p["schema"]
        for p in DOCUMENT["paths"][openai.CHAT_PATH]["post"]["parameters"]
        if p["name"] == subjects.HEADER_SLO_TTFT_MS.decode()
    )
    try:
        read_objective({subjects.HEADER_SLO_TTFT_MS: value.encode()}.get)
        taken = True
    except BadRequestError:
        taken = False
    assert bool(re.search(schema["pattern"], value)) is taken is (value in TAKEN.split())


def test_every_wish_of_a_client_is_told():
    chat = DOCUMENT["paths"][openai.CHAT_PATH]["post"]
    wishes = (subjects.HEADER_TIMEOUT_MS, subjects.HEADER_SLO_TTFT_MS, subjects.HEADER_SLO_TPOT_MS)
    assert {p["name"] for p in chat["parameters"]} == {
        name.decode() for name in (*wishes, subjects.HEADER_OBJECTIVE)
    }
    assert subjects.HEADER_POLICY.decode() in chat["description"]
