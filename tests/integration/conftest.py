"""What holds for every file of these tests."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """What a file's tests leave open is told as theirs: else the collector comes across it in the middle of somebody
    else's test."""
    yield
    gc.collect()
