"""Commands under test write no pages, which tests/report looks after: each takes a second or more."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def without_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.report.missing", lambda: ["(left out in tests)"])
        yield
