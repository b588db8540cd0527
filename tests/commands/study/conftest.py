import pytest

from balanced_agg.commands.compare import paired
from balanced_agg.commands.study import hypotheses


@pytest.fixture(scope="module")
def few_resamples():
    """The bootstrap intervals, on which no verdict depends, of fewer resamples than in a report."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (paired, hypotheses):
            patch.setattr(module, "RESAMPLES", 200)
        yield
