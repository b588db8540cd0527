"""An order of a batch's rows in which every optimizer step holds whole groups, and the ranks stay balanced.

verl gives each data-parallel rank an equal part of the batch, and optimizer step k is the k-th ``step_rows / ranks``
rows of every part (actor.shuffle off). It balances the parts without regard to steps, so that many groups are cut.
Here groups are dealt to steps first, then the rows of each step to the ranks.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def steps_needed(group_ids: Sequence[Hashable], step_rows: int) -> int:
    """The optimizer steps, of ``step_rows`` rows over all ranks, in which whole_group_order has room for these groups.

    The least possible number where the groups have one size, up to step_rows. Groups of many sizes may leave gaps: 512
    of 16 to 48 rows need 32.8 steps of 512 rows on average, and their rows alone 32.5.

    Args:
        group_ids: (rows,) group of each row, without padding rows.
    """
    return _first_fit(list(Counter(group_ids).values()), step_rows, step_rows)[1]


def whole_group_order(
    group_ids: Sequence[Hashable], seq_lens: Sequence[int], is_padding: Sequence[bool], ranks: int, step_rows: int
) -> list[int]:
    """The permutation of the rows under which steps hold whole groups: the old position for each new one.

    Groups go to steps in the order of their first rows, each to the first step with room. Steps are filled no further
    than they must be, which spreads the padding rows. A group larger than a step begins one and goes on in the next; no
    other is cut. Of each step and of the batch, the ranks get as many rows and about as much work and tokens.

    Args:
        group_ids: (rows,) group of each row; ignored for padding rows.
        seq_lens: (rows,) tokens of prompt and response.
        is_padding: (rows,) whether verl added the row to fill the batch.
        ranks: data-parallel ranks.
        step_rows: rows of an optimizer step over all ranks.

    Raises:
        ValueError: ranks do not divide step_rows, step_rows not the rows, or there are fewer steps than steps_needed.
    """
    steps, rest = divmod(len(group_ids), step_rows)
    if rest or step_rows % ranks:
        raise ValueError(f"{len(group_ids)} rows on {ranks} ranks are no whole number of steps of {step_rows} rows")
    groups: dict[Hashable, list[int]] = {}
    padding: list[int] = []
    for row, (group, padded) in enumerate(zip(group_ids, is_padding, strict=True)):
        (padding if padded else groups.setdefault(group, [])).append(row)
    members = list(groups.values())
    sizes = [len(rows) for rows in members]
    largest = max((size for size in sizes if size <= step_rows), default=0)
    # The least that steps can be filled with spreads the padding.
    for limit in range(max(largest, sum(sizes) // max(steps, 1)), step_rows + 1):
        packages, taken = _first_fit(sizes, step_rows, limit)
        if taken <= steps:
            break
    else:
        raise ValueError(f"the batch has {steps} steps of {step_rows} rows, and whole groups need {taken}: pad it")
    order: list[int] = []
    for package in packages:
        order += [row for group in package for row in members[group]]
        missing = -len(order) % step_rows
        order += padding[:missing]
        del padding[:missing]
    return _deal(np.array(order + padding, int).reshape(steps, step_rows), np.asarray(seq_lens, int), ranks)


def step_of_rows(rows: int, ranks: int, step_rows: int) -> np.ndarray:
    """(rows,) int, the optimizer step of each position of a batch in verl's order."""
    return np.arange(rows) % (rows // ranks) // (step_rows // ranks)


def cut_groups(group_ids: Sequence[Hashable], steps: Sequence[int]) -> int:
    """How many groups have rows in more than one step; (rows,) both, without padding rows."""
    return sum(count > 1 for count in Counter(group for group, _ in set(zip(group_ids, steps, strict=True))).values())


def _first_fit(sizes: list[int], step_rows: int, limit: int) -> tuple[list[list[int]], int]:
    """Packages of groups, each group in the first with room, and the steps that they take.

    A package is a step, filled with up to ``limit`` rows, or the steps that its first group, a larger one, needs.
    """
    packages: list[list[int]] = []
    rooms: list[int] = []
    steps = 0
    for group, size in enumerate(sizes):
        place = next((place for place, room in enumerate(rooms) if size <= room), len(rooms))
        if place == len(rooms):
            own_steps = -(-size // step_rows)
            steps += own_steps
            packages.append([])
            rooms.append(limit if size <= limit else own_steps * step_rows)
        packages[place].append(group)
        rooms[place] -= size
    return packages, steps


def _deal(rows: np.ndarray, seq_lens: np.ndarray, ranks: int) -> list[int]:
    """The rows of (steps, step_rows) in verl's order, those of each step balanced over the ranks."""
    # verl imports this package before its own modules.
    from verl.utils.seqlen_balancing import calculate_workload

    loads = np.stack([calculate_workload(seq_lens), seq_lens], axis=1)
    loads = loads / loads.sum(axis=0)  # (rows, 2), shares of all work and of all tokens
    # The rows of a step go to the ranks in turn, there and back, from the longest to the shortest.
    longest_first = np.take_along_axis(rows, np.argsort(-seq_lens[rows], axis=1, kind="stable"), axis=1)
    parts = longest_first.reshape(len(rows), rows.shape[1] // ranks, ranks).swapaxes(1, 2).copy()
    parts[:, :, 1::2] = parts[:, ::-1, 1::2]  # (steps, ranks, rows)
    totals = np.zeros((ranks, 2))
    # The longest rows are the hardest to balance: the steps after theirs even out what they leave.
    for step in np.argsort(-seq_lens[longest_first[:, 0]], kind="stable"):
        # The part with the most work goes to the rank that has the least.
        parts[step, totals[:, 0].argsort()] = parts[step, loads[parts[step], 0].sum(axis=1).argsort()[::-1]]
        totals += loads[parts[step]].sum(axis=1)
        _exchange_rows(parts[step], totals, loads)
    return np.sort(parts).swapaxes(0, 1).ravel().tolist()


def _exchange_rows(part: np.ndarray, totals: np.ndarray, loads: np.ndarray) -> None:
    """Exchange rows of a step, (ranks, rows), while it brings the rank furthest off and its opposite nearer."""
    # The search takes the square of the rows tried: of many, every n-th from long to short will do.
    tried = np.arange(0, part.shape[1], -(-part.shape[1] // 128))
    while True:
        one = np.square(totals - totals.mean(axis=0)).sum(axis=1).argmax()
        gaps = totals[one] - totals
        distances = np.square(gaps).sum(axis=1)
        other = distances.argmax()
        moved = loads[part[one, tried], None] - loads[part[other, tried]]
        left = np.square(gaps[other] - 2 * moved).sum(axis=-1)
        i, j = np.unravel_index(left.argmin(), left.shape)
        if left[i, j] >= 0.9 * distances[other]:
            return
        totals[one] -= moved[i, j]
        totals[other] += moved[i, j]
        part[one, tried[i]], part[other, tried[j]] = part[other, tried[j]], part[one, tried[i]]
