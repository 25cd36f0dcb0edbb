"""Predict, observe, learn: a stationary node is soon predicted, its claims right or wrong."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from fleet_nouns import (
    MODEL,
    READY,
    a_card,
    a_dispatch,
    a_pulse,
    a_request,
    an_estimate,
    an_outcome,
    joined,
    seen,
)

from isochrone.fleet import Dispatched, Fleet, FleetSettings, LoadReported, PulseReceived
from isochrone.fleet.ledger import Flight
from isochrone.fleet.speed import Speed
from isochrone.model import Load, ModelPulse, ModelState, Outcome, OutcomeKind, Request, Timings
from isochrone.routing import EstimateWeights, estimate

WEIGHTS = EstimateWeights()


@dataclass
class Truth:
    """A node as it really is; `hidden_ms` passes before the first token and no term tells of it."""

    base_ms: float = 80.0
    ms_per_token: float = 1.5
    tpot_ms: float = 12.0
    hidden_ms: float = 0.0
    rtt_ms: float = 20.0
    tokens_base: int = 10
    tokens_per_byte: float = 0.3

    def answer(self, request: Request) -> tuple[float, Timings]:
        tokens = self.tokens_base + round(self.tokens_per_byte * request.prompt_bytes)
        prefill_ms = self.base_ms + self.ms_per_token * tokens
        timings = Timings(
            prefill_ms=prefill_ms, decode_ms=20 * self.tpot_ms, prompt_tokens=tokens, output_tokens=21
        )
        return self.rtt_ms + self.hidden_ms + prefill_ms, timings


def converse(fleet: Fleet, truth: Truth, answers: int, prompt_bytes=(100, 4000)) -> list[float]:
    """Predict and observe `answers` times; returns the relative error of each predicted first token."""
    luck, errors = Random(5), []
    for number in range(answers):
        now_s = 1.0 + number
        fleet.step(LoadReported("a", Load(1)), now_s)
        request = a_request(number, prompt_bytes=luck.randint(*prompt_bytes))
        view = fleet.view(MODEL, now_s)
        predicted = estimate(view, request, view.nodes.numbers(0, request.blocks), WEIGHTS)
        ttft_ms, timings = truth.answer(request)
        errors.append(abs(predicted.ttft_ms - ttft_ms) / ttft_ms)
        fleet.step(Dispatched(request, "a", predicted), now_s)
        fleet.step(an_outcome(request, ttft_ms=ttft_ms, timings=timings), now_s + 0.5)
    return errors


CLAIMS = {
    "right": ModelPulse(MODEL, ModelState.READY, 0.0, 80.0, 1.5, 12.0),
    "none": ModelPulse(MODEL, ModelState.READY),
    "ten times too fast": ModelPulse(MODEL, ModelState.READY, 0.0, 8.0, 0.15, 1.2),
    "ten times too slow": ModelPulse(MODEL, ModelState.READY, 0.0, 800.0, 15.0, 120.0),
}


@pytest.mark.parametrize("hidden_ms", [0.0, 150.0])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_stationary_node_is_soon_predicted(claim, hidden_ms):
    fleet = joined(rtt_ms=20.0, models=(claim,))
    errors = converse(fleet, Truth(hidden_ms=hidden_ms), 300)
    assert max(errors[-50:]) < 0.05
    assert seen(fleet, 301.0).models[MODEL].tpot_ms == pytest.approx(12.0, rel=0.05)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_node_without_fixed_cost_is_predicted_too(claim):
    fleet = joined(rtt_ms=20.0, models=(claim,))
    assert max(converse(fleet, Truth(base_ms=0.0), 300)[-50:]) < 0.05


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_prompts_of_one_length_are_predicted_too(claim):
    fleet = joined(rtt_ms=20.0, models=(claim,))
    assert max(converse(fleet, Truth(), 150, prompt_bytes=(1000, 1000))[-50:]) < 0.05


def test_one_answer_of_a_node_without_claims_is_believed():
    """What took a second is not predicted to take six: the one sample explains all of its own time."""
    fleet, truth = joined(rtt_ms=20.0, models=(CLAIMS["none"],)), Truth(base_ms=0.0, ms_per_token=1.0)
    errors = converse(fleet, truth, 2, prompt_bytes=(4000, 4000))
    assert errors[1] < 0.5


def test_a_change_of_speed_is_followed():
    fleet = joined(rtt_ms=20.0)
    converse(fleet, Truth(), 100)
    assert max(converse(fleet, Truth(base_ms=300.0, ms_per_token=4.0), 250)[-20:]) < 0.05


def test_the_length_of_prompts_and_answers_is_learned_for_the_model_everywhere():
    fleet = joined("a", "b", rtt_ms=20.0)
    converse(fleet, Truth(), 150)
    view = fleet.view(MODEL, 200.0)
    assert view.output_tokens_mean == pytest.approx(21, rel=0.05)
    assert view.prompt_tokens_base == pytest.approx(10, abs=5)
    assert view.prompt_tokens_per_byte == pytest.approx(0.3, rel=0.02)
    unknown = fleet.view("unheard-of", 200.0)
    assert unknown.output_tokens_mean > 1
    assert unknown.prompt_tokens_per_byte == pytest.approx(0.25)


def a_speed(**claim) -> Speed:
    return Speed(FleetSettings(), replace(READY, **claim), 0.0)


def learn(speed: Speed, ttft_ms: float, now_s: float, timings: Timings | None = None, **terms) -> None:
    outcome = Outcome("r", "a", OutcomeKind.ANSWERED, 200, ttft_ms=ttft_ms, timings=timings)
    speed.learn(a_request(), Flight("a", an_estimate(**terms)), outcome, now_s)


@pytest.mark.parametrize("every_s", [0.1, 1.0, 10.0, 30.0])
def test_a_bias_that_is_confirmed_again_and_again_is_believed_in_full(every_s):
    speed = a_speed()
    for at in range(100):
        learn(speed, 300.0, at * every_s, prefill_ms=100.0)
    assert speed.view(1, 99 * every_s).bias_ms == pytest.approx(200.0, rel=0.1)


def test_a_bias_that_is_not_confirmed_fades():
    speed = a_speed()
    for at in range(100):
        learn(speed, 300.0, at / 100, prefill_ms=100.0)
    bias_ms = speed.view(1, 1.0).bias_ms
    assert bias_ms > 150.0
    assert speed.view(1, 1.0 + 60).bias_ms == pytest.approx(bias_ms / 2.718, rel=0.01)
    assert speed.view(1, 1e5).bias_ms == pytest.approx(0.0, abs=1e-6)


def test_the_error_is_how_far_predictions_lately_were_off():
    speed = a_speed()
    for now_s in range(50):
        learn(speed, 300.0 + (-1) ** now_s * 40.0, float(now_s), prefill_ms=300.0)
    assert speed.view(1, 50.0).error_ms == pytest.approx(40.0, rel=0.01)


def test_what_a_queue_or_a_cold_model_took_is_no_bias():
    speed = a_speed()
    learn(speed, 9000.0, 1.0, prefill_ms=100.0, wait_ms=5000.0)
    learn(speed, 9000.0, 1.0, prefill_ms=100.0, cold_ms=5000.0)
    assert speed.view(1, 1.0).bias_ms == 0.0


def test_a_wait_that_the_node_accounts_for_is_no_bias_though_nobody_foresaw_it():
    speed = a_speed()
    for now_s in range(20):
        told = Timings(queue_ms=800.0, load_ms=50.0, prefill_ms=220.0, prompt_tokens=100)
        learn(speed, 1090.0, float(now_s), told, rtt_ms=20.0, prefill_ms=220.0)
    assert speed.view(1, 20.0).bias_ms == pytest.approx(0.0, abs=1e-6)


def test_what_a_node_leaves_out_of_its_account_is_its_bias():
    speed = a_speed()
    for now_s in range(20):
        told = Timings(prefill_ms=220.0, prompt_tokens=100)
        learn(speed, 540.0, float(now_s), told, rtt_ms=20.0, prefill_ms=220.0, wait_ms=300.0)
    assert speed.view(1, 20.0).bias_ms == pytest.approx(300.0, rel=0.1)


def test_an_unstreamed_answer_tells_no_first_token():
    speed = a_speed()
    outcome = Outcome("r", "a", OutcomeKind.ANSWERED, total_ms=9e3)
    speed.learn(a_request(), Flight("a", an_estimate()), outcome, 1.0)
    view = speed.view(1, 1.0)
    assert (view.bias_ms, view.error_ms, view.observations) == (0.0, 0.0, 1)


def test_an_answer_whose_prompt_was_not_counted_teaches_no_prefill():
    """Zero tokens means "not told" in a trailer: it must not be learned as the price of an empty prompt."""
    speed = a_speed(prefill_base_ms=20.0, prefill_ms_per_token=2.0)
    for now_s in range(50):
        learn(
            speed, 1020.0, now_s, Timings(prefill_ms=1020.0, output_tokens=9, decode_ms=80.0), prefill_ms=1020
        )
    view = speed.view(1, 50.0)
    assert view.prefill_base_ms + 500 * view.prefill_ms_per_token == pytest.approx(1020.0, rel=0.3)


def test_speed_under_concurrency_is_learned():
    speed = a_speed(tpot_ms=0.0)
    for at in range(100):
        busy = 1 + at % 4
        learn(speed, 50.0, at, Timings(decode_ms=20 * (5.0 + 5 * busy), output_tokens=21, concurrency=busy))
    assert speed.view(1, 100.0).tpot_ms == pytest.approx(10.0, rel=0.02)
    assert speed.view(4, 100.0).tpot_ms == pytest.approx(25.0, rel=0.02)


def test_a_loading_model_comes_nearer_and_a_ready_one_is_here():
    speed = a_speed(state=ModelState.LOADING, ready_in_s=5.0)
    assert [speed.view(1, now_s).ready_in_s for now_s in (0.0, 2.0, 9.0)] == [5.0, 3.0, 0.0]
    speed.hear(replace(READY, state=ModelState.ON_DISK, ready_in_s=5.0), 10.0)
    assert speed.view(1, 20.0).ready_in_s == 5.0
    speed.hear(READY, 21.0)
    assert speed.view(1, 22.0).ready_in_s == 0.0


def on_disk() -> ModelPulse:
    return replace(READY, state=ModelState.ON_DISK, ready_in_s=6.0)


def test_a_model_that_we_sent_work_to_is_loading_from_then_on():
    fleet = joined(models=(on_disk(),))
    fleet.step(a_dispatch(a_request()), 10.0)
    model = seen(fleet, 12.0).models[MODEL]
    assert (model.state, model.ready_in_s) == (ModelState.LOADING, 4.0)
    fleet.step(a_dispatch(a_request(2)), 12.0)
    assert seen(fleet, 13.0).models[MODEL].ready_in_s == 3.0


def test_a_model_that_begins_to_load_keeps_its_claimed_speeds():
    fleet = joined(models=(on_disk(),))
    before = seen(fleet, 10.0).models[MODEL]
    fleet.step(a_dispatch(a_request()), 10.0)
    after = seen(fleet, 10.0).models[MODEL]
    assert after == replace(before, state=ModelState.LOADING, cached_prefix=after.cached_prefix)


def test_dispatches_turn_the_round_robin():
    fleet = joined("a", "b")
    turns = [fleet.view(MODEL, 0.0).turn]
    for number in range(3):
        fleet.step(a_dispatch(a_request(number)), 0.0)
        turns.append(fleet.view(MODEL, 0.0).turn)
    assert turns == [0, 1, 2, 3]


def test_a_card_that_comes_again_costs_nothing_learned():
    fleet = joined(rtt_ms=20.0)
    converse(fleet, Truth(), 50)
    before = seen(fleet, 60.0).models[MODEL]
    fleet.step(a_card(slots=2), 60.0)
    fleet.step(PulseReceived(a_pulse(seq=2)), 60.0)
    assert seen(fleet, 60.0).models[MODEL] == before
