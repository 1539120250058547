"""Budgets are refused before anything is spent, and outlive the process that spends."""

import pytest

from runner.backends import ledger
from runner.backends.ledger import Ledger, OverBudgetError
from runner.errors import BackendUnavailableError
from runner.policy.held import Budget

DAILY = Budget(circuits=10, shots=1000, seconds=5)


@pytest.fixture
def book(tmp_path):
    def book(cost, backend="lab", user="ann", budget=DAILY):
        Ledger(tmp_path / "new" / "ledger.sqlite").book(backend, user, budget, cost)

    return book


def test_a_budget_counts_what_was_booked_before(book):
    book({"circuits": 6, "shots": 600})
    with pytest.raises(OverBudgetError, match="user 'ann' today is 10 circuits: 6 used, 5 asked"):
        book({"circuits": 5, "shots": 1})
    with pytest.raises(OverBudgetError, match="1000 shots: 600 used, 401 asked"):
        book({"circuits": 1, "shots": 401})
    book({"circuits": 4, "shots": 400})


def test_what_was_refused_is_not_booked(book):
    with pytest.raises(OverBudgetError):
        book({"circuits": 11})
    book({"circuits": 10})


def test_users_and_backends_have_budgets_of_their_own(book):
    book({"circuits": 10})
    book({"circuits": 10}, user="bob")
    book({"circuits": 10}, backend="other")


def test_seconds_that_were_used_up_refuse_the_next_call(book):
    book({"seconds": 7.5}, budget=Budget())  # known only afterwards
    with pytest.raises(OverBudgetError, match=r"5 seconds: 7\.5 used"):
        book({"circuits": 1})


def test_another_day_has_its_own_budget(book, monkeypatch):
    book({"circuits": 10})
    today = ledger._today()
    monkeypatch.setattr(ledger, "_today", lambda: today + 1)
    book({"circuits": 10})


def test_a_ledger_that_cannot_be_kept_refuses_the_call(tmp_path):
    (tmp_path / "ledger").write_text("something else entirely, and long enough for a header")
    with pytest.raises(BackendUnavailableError, match="budgets of held backends cannot be kept"):
        Ledger(tmp_path / "ledger").book("lab", "", DAILY, {"circuits": 1})
