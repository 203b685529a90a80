import pytest

from airflow_provider_mediquo.api.text import counted


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 records"), (1, "1 record"), (2, "2 records"), (2000, "2,000 records")],
)
def test_a_count_of_one_is_no_plural(count, text):
    assert counted(count, "record") == text
