"""What a command tells Ray by its environment stays in the test: the process of the tests starts Ray later too."""

import os
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def environment():
    with mock.patch.dict(os.environ):
        yield
