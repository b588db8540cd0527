"""Batches of groups for the tests of the mathematics, and the hypothesis strategies that draw them."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate, length_divisors

WIDTH = 6
BUDGET = 8  # tokens
# What must not matter is tried with these: every rule goes the same way.
MODES = (
    *("balanced", "group-token-mean", "seq-mean-token-mean", "token-mean"),
    *("prompt-mean", "delta-l:0.5", "sign-weights@equal-mass"),
)

# A response as the strategies draw it: its advantage and the positions of its unmasked tokens.
Response = tuple[float, Sequence[int]]


@dataclass(frozen=True)
class Batch:
    """Responses of several groups, one a row."""

    group_ids: Sequence[Hashable]
    row_advantages: list[float]
    advantages: Tensor  # (rows, tokens) the row's advantage at unmasked tokens, anything elsewhere
    mask: Tensor  # (rows, tokens)
    losses: Tensor  # (rows, tokens) float64

    def __len__(self) -> int:
        return len(self.row_advantages)

    def select(self, rows: Sequence[int]) -> "Batch":
        rows = list(rows)
        return Batch(
            [self.group_ids[row] for row in rows],
            [self.row_advantages[row] for row in rows],
            self.advantages[rows],
            self.mask[rows],
            self.losses[rows],
        )

    def unmasked_losses(self) -> list[list[float]]:
        rows = zip(self.losses.tolist(), self.mask.tolist(), strict=True)
        return [[loss for loss, kept in zip(*row, strict=True) if kept] for row in rows]


def make_batch(groups: Sequence[Sequence[Response]], width: int = WIDTH, seed: int = 0) -> Batch:
    """A batch of the given groups with random token losses; group ids are the groups' positions."""
    rows = [(group_id, *response) for group_id, group in enumerate(groups) for response in group]
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (_, _, positions) in enumerate(rows):
        mask[row, list(positions)] = True
    row_advantages = [advantage for _, advantage, _ in rows]
    advantages = torch.tensor(row_advantages).unsqueeze(-1) * mask
    losses = torch.randn(mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Batch([group_id for group_id, *_ in rows], row_advantages, advantages, mask, losses)


def loss_and_gradient(mode: str, batch: Batch, total: int | None = None) -> tuple[float, Tensor]:
    """Loss of the whole batch and its gradient in the token losses; ``total`` is N, by default the rows."""
    divisors = divisors_of(mode, batch)
    losses = batch.losses.clone().requires_grad_()
    loss = aggregate(losses, batch.mask, divisors, total or len(batch))
    loss.backward()
    return loss.item(), losses.grad


def divisors_of(mode: str, batch: Batch) -> Tensor:
    return length_divisors(mode, batch.group_ids, batch.advantages, batch.mask, response_budget=BUDGET)


def sign(advantage: float) -> int:
    return (advantage > 0) - (advantage < 0)


# ---- strategies


# A prefix, or any subset of the places; more often than by chance no token at all.
TOKEN_POSITIONS = (
    [[]] * WIDTH
    + [list(range(length)) for length in range(WIDTH + 1)]
    + [[t for t in range(WIDTH) if bits >> t & 1] for bits in range(2**WIDTH)]
)
SOME_POSITIONS = [tokens for tokens in TOKEN_POSITIONS if tokens]
ADVANTAGES = [-2.0, -0.5, 0.0, 0.5, 1.5]

Groups = list[list[Response]]


@st.composite
def some_groups(draw: st.DrawFn, signals: list[float], positions: list[list[int]], most: int = 4) -> Groups:
    """Groups of different sizes, down to one response; a signal is an advantage or a reward."""
    response = st.sampled_from([(signal, tokens) for signal in signals for tokens in positions])
    return draw(st.lists(st.lists(response, min_size=1, max_size=5), min_size=1, max_size=most))


def shuffled(rows: int, seed: int) -> list[int]:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()


seeds = st.integers(0, 999)


def object_array(ids: list) -> np.ndarray:
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array


ID_KINDS: list[Callable[[list], Sequence[Hashable]]] = [
    lambda ids: [f"b7e1-{i}" for i in ids],
    lambda ids: [-7 * i if isinstance(i, int) else i for i in ids],
    lambda ids: [("prompt", i) for i in ids],
    lambda ids: object_array([f"b7e1-{i}" for i in ids]),
]


@st.composite
def batches(
    draw: st.DrawFn,
    positions: list[list[int]] = TOKEN_POSITIONS,
    padding_rows: int = 2,
    clean: bool = False,
) -> Batch:
    """Scattered rows of groups and padding; anything at masked places unless ``clean``."""
    padding = [[(0.0, [])]] * draw(st.integers(0, padding_rows))
    groups = draw(some_groups(ADVANTAGES, positions))
    seed = draw(seeds)
    batch = make_batch(groups + padding, seed=seed)
    batch = batch.select(shuffled(len(batch), seed))
    ids = [f"pad{i}" if i >= len(groups) else i for i in batch.group_ids]
    batch = replace(batch, group_ids=draw(st.sampled_from(ID_KINDS))(ids))
    if not clean:
        batch = with_junk(batch, draw(st.sampled_from(JUNK)), draw(st.sampled_from(JUNK)))
    dtype = draw(st.sampled_from([torch.bool, torch.int64, torch.float32]))
    return replace(batch, mask=batch.mask.to(dtype))


JUNK = [0.0, math.nan, math.inf, -math.inf, 5.0, -5.0]


def with_junk(batch: Batch, loss: float, advantage: float) -> Batch:
    """The batch with the given values wherever the mask is 0."""
    masked = ~batch.mask.bool()
    return replace(
        batch,
        losses=batch.losses.masked_fill(masked, loss),
        advantages=batch.advantages.masked_fill(masked, advantage),
    )
