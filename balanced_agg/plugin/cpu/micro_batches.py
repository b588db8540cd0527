"""Which responses share a micro-batch where sequences are padded to the longest of it, as they are on CPU."""

from itertools import accumulate


def cut_by_length(lengths: list[int], parts: int) -> list[list[int]]:
    """Split rows into micro-batches of neighbours in length, each with about the same sum of lengths.

    Args:
        lengths: of each row, in any unit that grows with its tokens.
        parts: how many micro-batches, between 1 and the number of rows.

    Returns:
        The rows of each micro-batch, ascending; none is empty, and each row is in one.
    """
    rows = sorted(range(len(lengths)), key=lengths.__getitem__)
    sums = list(accumulate(lengths[row] for row in rows))
    cuts = [0]
    for part in range(1, parts):
        share = sums[-1] * part / parts
        cut = next(i for i, reached in enumerate(sums, start=1) if reached >= share)
        # Each has a row, however long one of them is.
        cuts.append(min(max(cut, cuts[-1] + 1), len(rows) - parts + part))
    return [sorted(rows[first:last]) for first, last in zip(cuts, [*cuts[1:], len(rows)], strict=True)]
