"""How work is cut into shards."""

from hypothesis import given
from hypothesis import strategies as st

from posfeat_hloc.cluster.cluster import cut


@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 64))
def test_shards_hold_everything_in_order(count, slots, largest):
    parts = cut(range(count), slots, largest)
    assert [item for part in parts for item in part] == list(range(count))
    assert all(1 <= len(part) <= largest for part in parts)


def test_every_slot_gets_several_shards_and_large_collections_large_ones():
    assert [len(part) for part in cut(range(80), 5, 16)] == [4] * 20
    assert {len(part) for part in cut(range(16_000), 5, 16)} == {16}
    assert [len(part) for part in cut(range(3), 5, 16)] == [1, 1, 1]
