import gc

import pytest

from airflow_provider_mediquo.api.upload.garbage import existing_objects_frozen


@pytest.fixture
def nothing_frozen():
    gc.unfreeze()
    yield
    gc.freeze()  # as conftest.py leaves it


def test_what_is_there_is_frozen_only_during_a_run(nothing_frozen, client, upload, people):
    def source():
        frozen.append(gc.get_freeze_count())
        yield from people(3)

    frozen: list[int] = []
    assert upload(client, source()).report.upserted == 3
    assert frozen[0] > 1000
    assert gc.get_freeze_count() == 0


def test_what_others_have_frozen_stays_so(nothing_frozen):
    with existing_objects_frozen():
        with existing_objects_frozen():
            pass
        assert gc.get_freeze_count()
    assert gc.get_freeze_count() == 0


def test_an_error_ends_it(nothing_frozen):
    with pytest.raises(ValueError, match="of the source"), existing_objects_frozen():
        raise ValueError("of the source")
    assert gc.get_freeze_count() == 0
