"""Gzip bombs, scaled down."""

import gzip
import io
import zlib

import pytest

from airflow_provider_mediquo.api.errors import SourceError
from airflow_provider_mediquo.sources.files import bounded_gzip as unpacked
from airflow_provider_mediquo.sources.files.bounded_gzip import Unpacked

FREE, SIZE = 100_000, 40_000_000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(unpacked, "FREE", FREE)
    monkeypatch.setattr(unpacked, "MOST", 100)  # times what is read ahead, which is packed too


def read(packed):
    """Return how many bytes could be read."""
    file = Unpacked(io.BufferedReader(io.BytesIO(packed)), "a.gz")
    count = 0
    try:
        while block := file.read(1 << 14):
            count += len(block)
    except SourceError as error:
        assert "a.gz cannot be read any further:\nit is gzip and holds more than 100 times" in str(
            error
        )
        return -count
    return count


def random_like(size):
    """Bytes that compress to a tenth of their size or so."""
    return b"".join(b"m-%d,Ada,basic\n" % (n * 7919 % 1_000_003) for n in range(size // 16))


def test_what_holds_far_more_than_its_size_ends_once_it_is_more_than_what_is_free():
    bomb = gzip.compress(b"\n" * SIZE)
    assert 1000 < SIZE / len(bomb) < 1100, "the most that the format can do"
    assert FREE < -read(bomb) < SIZE


def test_a_bomb_of_members_ends_too():
    assert read(gzip.compress(b"x" * 50_000) * 1000) < -FREE / 2


@pytest.mark.parametrize("size", [0, 1, FREE])
def test_what_is_free_may_be_anything(size):
    assert read(gzip.compress(b"\n" * size)) == size


def test_members_are_never_near_it():
    content = random_like(1_000_000)
    assert read(gzip.compress(content, 9)) == len(content)


def test_a_bomb_behind_honest_rows_ends_once_it_is_too_much_for_both():
    rows = random_like(100_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(rows) + packer.compress(b"\n" * SIZE) + packer.flush()
    assert 100 * len(gzip.compress(rows)) < -read(packed) < SIZE


def test_the_bound_itself_is_below_the_worst_of_the_format(monkeypatch):
    monkeypatch.undo()
    bomb = gzip.compress(b"\n" * SIZE)
    with pytest.raises(SourceError, match="500 times"):
        io.BufferedReader(Unpacked(io.BufferedReader(io.BytesIO(bomb)), "a.gz")).read()
