"""What a client wants of an answer, as it says so in the headers of its request."""

import re
from collections.abc import Callable

from isochrone.model import NO_OBJECTIVE, Objective
from isochrone.wire.errors import BadRequestError
from isochrone.wire.subjects import HEADER_OBJECTIVE, HEADER_SLO_TPOT_MS, HEADER_SLO_TTFT_MS

SLO_MS_MAX = 1e9
_NUMBER = re.compile(rb"\d{1,10}(\.\d{1,9})?|\.\d{1,9}")
_WANTS = {b"first-token": False, b"completion": True}

Header = Callable[[bytes], bytes | None]
"""Reads a header of the request by its lower-case name, None when it is not there."""


def read_objective(header: Header) -> Objective:
    """The objective that the headers tell. Raises BadRequestError that names the header at fault."""
    ttft, tpot = header(HEADER_SLO_TTFT_MS), header(HEADER_SLO_TPOT_MS)
    wanted = header(HEADER_OBJECTIVE)
    if ttft is None and tpot is None and wanted is None:
        return NO_OBJECTIVE
    return Objective(
        ttft_ms=None if ttft is None else _milliseconds(HEADER_SLO_TTFT_MS, ttft),
        tpot_ms=None if tpot is None else _milliseconds(HEADER_SLO_TPOT_MS, tpot),
        completion=None if wanted is None else _completion(wanted),
    )


def _milliseconds(header: bytes, told: bytes) -> float:
    name, told = header.decode(), told.strip()
    value = float(told) if _NUMBER.fullmatch(told) else 0.0
    if not 0.0 < value <= SLO_MS_MAX:
        raise BadRequestError(
            f"The header {name} must be a number of milliseconds above 0 and up to {SLO_MS_MAX:.0f}, "
            "such as 250 or 37.5.",
            param=name,
            code="invalid_value",
        )
    return value


def _completion(told: bytes) -> bool:
    name, wanted = HEADER_OBJECTIVE.decode(), _WANTS.get(told.strip())
    if wanted is None:
        raise BadRequestError(
            f"The header {name} must be first-token or completion.", param=name, code="invalid_value"
        )
    return wanted
