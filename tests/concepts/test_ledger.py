import pytest
from hypothesis import given
from hypothesis import strategies as st

from concepts.errors import LibraryError
from concepts.ledger import best_start

blocks = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda b: (b[0], b[0] + b[1])), max_size=8)


@given(blocks, st.integers(1, 24))
def test_no_start_uses_fewer_columns_and_no_lower_one_as_few(taken, width):
    capacity = 24

    def used(start):
        return sum(lo <= column < hi for lo, hi in taken for column in range(start, start + width))

    start = best_start(taken, width, capacity)
    assert start == min(range(capacity - width + 1), key=used)  # min takes the first of equals


def test_the_lowest_gap_that_is_wide_enough():
    taken = [(0, 8), (12, 20), (28, 32)]
    assert best_start(taken, 4, 64) == 8
    assert best_start(taken, 8, 64) == 20
    assert best_start(taken, 9, 64) == 32


def test_a_crowd_spreads_evenly():
    taken: list[tuple[int, int]] = []
    for _ in range(10):
        start = best_start(taken, 8, 32)
        taken.append((start, start + 8))
    assert [start for start, _ in taken] == [0, 8, 16, 24, 0, 8, 16, 24, 0, 8]


@pytest.mark.parametrize("width", [0, -1, 33])
def test_a_width_that_cannot_fit(width):
    with pytest.raises(LibraryError, match="choose a rank from 1 to 32"):
        best_start([], width, 32)
