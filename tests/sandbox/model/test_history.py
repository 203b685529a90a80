import pytest

from airflow_provider_mediquo.sandbox.model.history import SECONDS, History


class Clock:
    def __init__(self):
        self.now = 1000.5

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def history(clock):
    return History(clock)


def test_what_happened_is_counted_by_second_without_the_one_that_goes_on(history, clock):
    history.add("get")
    history.add("get", 2)
    assert history.per_second("get") == [0] * SECONDS
    clock.now += 1
    history.add("get", 5)
    assert history.per_second("get") == [*[0] * (SECONDS - 1), 3]
    clock.now += 1
    assert history.per_second("get")[-2:] == [3, 5]
    assert history.per_second("upsert") == [0] * SECONDS


def test_totals_go_on_from_what_has_been_forgotten(history, clock):
    history.add("accepted", 7)
    clock.now += SECONDS + 10
    history.add("accepted", 1)
    clock.now += 2
    assert history.totals("accepted") == [*[7] * (SECONDS - 2), 8, 8]


def test_what_is_noticed_late_is_counted_when_it_happened(history, clock):
    history.add("visible", 4, ago=3)
    assert history.per_second("visible")[-4:] == [0, 4, 0, 0]
    assert history.totals("visible")[-4:] == [0, 4, 4, 4]


def test_it_keeps_no_more_than_it_shows(history, clock):
    for _ in range(3 * SECONDS):
        history.add("get")
        clock.now += 1
    assert len(history._seconds) <= SECONDS + 1
    assert history.totals("get")[-1] == 3 * SECONDS


def test_a_reset_forgets_all(history, clock):
    history.add("get")
    history.reset()
    clock.now += 1
    assert history.totals("get") == history.per_second("get") == [0] * SECONDS
