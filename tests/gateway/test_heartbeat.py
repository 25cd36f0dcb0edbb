"""When a worker counts as one that stands still."""

from pathlib import Path

import pytest

from isochrone.cli.workers import check_stall_s
from isochrone.gateway.crew.heartbeat import (
    BEAT_S,
    FIRST_BEAT_S,
    LOOK_S,
    STALL_S,
    STALL_S_LEAST,
    STALL_S_MOST,
    Watch,
)
from isochrone.ports import SettingError

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def looks_until_ended(watch: Watch, beats: int) -> int:
    return next(look for look in range(1, 10_000) if watch.look(beats))


def test_who_beats_is_let_be_however_slowly_the_counter_moves() -> None:
    watch = Watch(2.0)
    assert not any(watch.look(at // 2) for at in range(100))


def test_who_stands_still_is_ended_after_so_many_looks() -> None:
    watch = Watch(5.0)
    watch.look(1)
    assert looks_until_ended(watch, 1) == 5.0 / LOOK_S
    assert watch.still_s == 5.0


def test_who_beat_again_in_time_begins_anew() -> None:
    watch = Watch(3.0)
    assert [watch.look(beats) for beats in (1, 1, 1, 2, 2, 2, 2)] == [False] * 6 + [True]


@pytest.mark.parametrize(("stall_s", "given_s"), [(2.0, FIRST_BEAT_S), (100.0, 100.0)])
def test_who_begins_has_longer_and_is_ended_all_the_same(stall_s: float, given_s: float) -> None:
    assert looks_until_ended(Watch(stall_s), 0) == given_s / LOOK_S


def test_another_life_is_not_held_to_the_one_before() -> None:
    watch = Watch(2.0)
    watch.look(7)
    assert looks_until_ended(watch, 7) == 2
    watch.born(7)
    assert looks_until_ended(watch, 7) == FIRST_BEAT_S / LOOK_S


def test_the_counter_may_run_over() -> None:
    watch = Watch(2.0)
    assert [watch.look(beats) for beats in (2**32 - 1, 0, 0, 0)] == [False, False, False, True]


def test_the_default_and_the_bounds_are_as_told_and_leave_room_for_many_beats() -> None:
    assert 2 * BEAT_S <= LOOK_S < STALL_S_LEAST < STALL_S < STALL_S_MOST
    assert check_stall_s(STALL_S) == STALL_S
    assert f"`--worker-stall-s` ({STALL_S:g}, from {STALL_S_LEAST:g} to {STALL_S_MOST:g})" in OPERATIONS


@pytest.mark.parametrize("stall_s", [0.0, 1.9, -5.0, 3601.0, float("inf"), float("nan")])
def test_what_makes_no_sense_is_refused(stall_s: float) -> None:
    with pytest.raises(SettingError, match=r"--worker-stall-s .*2 to 3600 seconds are wanted"):
        check_stall_s(stall_s)
