"""A rule as a user would write one, named in a test's loss_agg_mode."""


def root(responses):
    """The square root of the length."""
    return responses.lengths**0.5
