"""What a client wants, from its headers; what makes no sense is told by the header's name."""

import pytest

from isochrone.model import NO_OBJECTIVE, Objective
from isochrone.wire import BadRequestError
from isochrone.wire.objectives import read_objective


def read(**headers: str) -> Objective:
    told = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return read_objective(told.get)


def test_no_header_is_no_objective():
    assert read() is NO_OBJECTIVE
    assert not NO_OBJECTIVE.has_slo


def test_each_limit_may_come_alone_whole_or_decimal():
    assert read(x_slo_ttft_ms="250") == Objective(ttft_ms=250.0)
    assert read(x_slo_tpot_ms="37.5") == Objective(tpot_ms=37.5)
    assert read(x_slo_ttft_ms=" 0.5 ", x_slo_tpot_ms="40") == Objective(0.5, 40.0)


def test_what_counts_is_said_in_a_word():
    assert read(x_isochrone_objective="completion").completion is True
    assert read(x_isochrone_objective="first-token").completion is False
    assert read(x_slo_ttft_ms="1").completion is None


@pytest.mark.parametrize("header", ["x-slo-ttft-ms", "x-slo-tpot-ms"])
@pytest.mark.parametrize(
    "value",
    ["", "0", "0.0", "-1", "+5", "1e3", "1_000", "nan", "inf", "fast", "1,5", "1.", "99999999999", "٣"],
)
def test_what_is_no_positive_number_is_refused(header, value):
    with pytest.raises(BadRequestError, match=header) as error:
        read(**{header: value})
    assert (error.value.status, error.value.param, error.value.code) == (400, header, "invalid_value")


def test_a_limit_beyond_reason_is_refused_with_the_most_that_is_taken():
    assert read(x_slo_ttft_ms="1000000000").ttft_ms == 1e9
    with pytest.raises(BadRequestError, match="up to 1000000000"):
        read(x_slo_ttft_ms="1000000000.5")


@pytest.mark.parametrize("value", ["", "soonest", "First-Token", "completion,first-token"])
def test_an_unknown_objective_is_refused(value):
    with pytest.raises(BadRequestError, match="must be first-token or completion") as error:
        read(x_isochrone_objective=value)
    assert (error.value.status, error.value.param) == (400, "x-isochrone-objective")
