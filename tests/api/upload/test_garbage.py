import gc
import weakref

import pytest

from airflow_provider_mediquo.api.upload.garbage import existing_objects_frozen


def test_what_is_there_is_frozen_only_during_a_run(client, upload, people):
    def source():
        frozen.append(gc.get_freeze_count())
        yield from people(3)

    frozen: list[int] = []
    assert upload(client, source()).report.upserted == 3
    assert frozen[0] > 1000
    assert gc.get_freeze_count() == 0


def test_new_garbage_is_not_kept_until_the_end_of_the_run():
    class Records:
        """A cycle, such as an exception and its frame, which only a collection deletes."""

        def __init__(self):
            self.own = self

    records = weakref.ref(Records())
    with existing_objects_frozen():
        assert records() is None


def test_an_error_ends_it():
    with pytest.raises(ValueError, match="of the source"), existing_objects_frozen():
        raise ValueError("of the source")
    assert gc.get_freeze_count() == 0
