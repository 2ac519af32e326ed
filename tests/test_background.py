"""Writing in the background while the next batch is extracted."""

from __future__ import annotations

import pytest

from posfeat_hloc.errors import StoreError
from posfeat_hloc.extract_features import background


def test_background_work_is_done_in_order_one_at_a_time() -> None:
    done: list[int] = []
    with background() as hand_over:
        for i in range(5):
            hand_over(lambda i=i: done.append(i))  # type: ignore[misc]
            assert len(done) >= i  # the work before it is finished
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("after", [0, 1])
def test_an_error_in_the_background_is_raised(after: int) -> None:
    done: list[str] = []

    def fail() -> None:
        raise StoreError("the disk is full")

    def do_all() -> None:
        with background() as hand_over:
            for work in [fail, *[lambda: done.append("more")] * after]:
                hand_over(work)

    with pytest.raises(StoreError, match="the disk is full"):
        do_all()
    assert done == []
