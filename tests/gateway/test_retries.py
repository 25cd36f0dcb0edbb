"""The budget for second attempts."""

from isochrone.gateway.retries import RetryBudget


def test_what_is_saved_can_be_spent_and_no_more() -> None:
    budget = RetryBudget(per_request=0.2, most=3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_five_requests_earn_one_retry() -> None:
    budget = RetryBudget(per_request=0.2, most=3, saved=0.0)
    budget.saved = 0.0
    for _ in range(5):
        assert not budget.spend()
        budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_no_more_is_saved_than_the_most() -> None:
    budget = RetryBudget(per_request=0.5, most=2)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]
