"""What a length divisor may depend on: the responses of a batch, whichever rows they are made of.

Rows are what a trainer holds: a prompt and some tokens each. A response is one session, one run of the policy on a
prompt. Mostly that is one row; an agent run may leave several, which share one advantage and together are one response.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain, count

import torch
from torch import Tensor


@dataclass(frozen=True)
class Responses:
    """The n responses that have tokens. All tensors are (n,), on one device.

    Attributes:
        lengths: float64, unmasked tokens of all rows of the response; above 0.
        groups: number of the group, from 0: the responses to one prompt.
        advantages: float64, mean over the unmasked tokens.
        lowest, highest: bounds of the unmasked advantages.
        total: N, the number of responses, those without tokens included.
        prompts: number of groups, those without tokens included.
        budget: the longest response allowed, in tokens; None where it is not known.
        of_row: (rows,) which of the n responses a row belongs to; -1 where that one has no tokens.
    """

    lengths: Tensor
    groups: Tensor
    advantages: Tensor
    lowest: Tensor
    highest: Tensor
    total: int
    prompts: int
    budget: float | None
    of_row: Tensor

    @cached_property
    def signs(self) -> Tensor:
        """-1, 0 or 1: the sign of the response's advantages that are not 0.

        Raises:
            ValueError: a response with unmasked advantages of both signs, or NaN: it has no sign.
        """
        if bool(torch.isnan(self.highest).any()):
            raise ValueError("advantages are NaN at unmasked tokens; look for NaN in the rewards")
        both = ((self.lowest < 0) & (self.highest > 0)).nonzero().flatten()
        if len(both):
            row = (self.of_row == both[0]).nonzero()[0].item()
            raise ValueError(
                f"{len(both)} responses (first: row {row}) carry advantages of both signs, so rules by sign are "
                "undefined for them; set algorithm.adv_estimator to one with a single advantage per response, such as "
                "grpo"
            )
        return (self.highest > 0).long() - (self.lowest < 0).long()

    @property
    def signed_groups(self) -> Tensor:
        """A number for each sign in each group."""
        return 3 * self.groups + 1 + self.signs

    def size_of(self, subsets: Tensor) -> Tensor:
        """Number of responses in the subset of each; `subsets` numbers them."""
        return torch.bincount(subsets)[subsets]

    def mean_in(self, subsets: Tensor, values: Tensor | None = None) -> Tensor:
        """Mean of `values`, by default of the lengths, in the subset of each response."""
        # float64 counts are exact up to 2**53 tokens, whatever order the rows are added in.
        sums = torch.bincount(subsets, weights=self.lengths if values is None else values)
        return (sums / torch.bincount(subsets))[subsets]

    def for_rows(self, values: Tensor, without_tokens: float) -> Tensor:
        """(rows,) the value of each row's response."""
        padded = torch.cat([values, values.new_tensor([without_tokens])])
        return padded[self.of_row]  # -1 is the last one


@dataclass(frozen=True)
class Rows:
    """Numbers of each row, each (rows,).

    Attributes:
        group_ids: equal within a group; groups may differ in size and be scattered.
        session_ids: equal within a response; None where each row is one of its own. Sessions of different groups have
            different ids.
        lengths: unmasked tokens.
        sums: sum of the unmasked advantages.
        lowest, highest: bounds of the unmasked advantages, 0 among them where a token is masked.
    """

    group_ids: Sequence[Hashable]
    session_ids: Sequence[Hashable] | None
    lengths: Tensor
    sums: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def measured(
        cls,
        group_ids: Sequence[Hashable],
        session_ids: Sequence[Hashable] | None,
        advantages: Tensor,
        response_mask: Tensor,
    ) -> "Rows":
        """Of (rows, tokens) advantages and mask; advantages may be anything, NaN included, where the mask is 0.

        Raises:
            ValueError: shapes that disagree.
        """
        if advantages.shape != response_mask.shape or response_mask.dim() != 2:
            raise ValueError(
                "advantages and response_mask must both be (rows, tokens), "
                f"got {tuple(advantages.shape)} and {tuple(response_mask.shape)}"
            )
        rows, width = response_mask.shape
        for name, ids in (("group_ids", group_ids), ("session_ids", session_ids)):
            if ids is not None and len(ids) != rows:
                raise ValueError(f"{len(ids)} {name} for {rows} rows; give one per row")
        if width == 0:
            none = torch.zeros(rows, dtype=torch.double, device=response_mask.device)
            return cls(group_ids, session_ids, none, none, none, none)
        # Row blocks small enough that their temporaries stay in cache; whole-batch ones cost more in page faults.
        numbers = []
        blocks = (matrix.split(max(1, 2**18 // width)) for matrix in (advantages, response_mask))
        for values, mask in zip(*blocks, strict=True):
            unmasked = torch.where(mask.bool(), values, 0)
            # Summing bool directly is ten times slower on CPU than converting block by block.
            numbers.append((mask.long().sum(-1), unmasked.sum(-1), unmasked.amin(-1), unmasked.amax(-1)))
        return cls(group_ids, session_ids, *(torch.cat(column) for column in zip(*numbers, strict=True)))

    @classmethod
    def of_lengths(
        cls,
        group_ids: Sequence[Hashable],
        session_ids: Sequence[Hashable] | None,
        lengths: Tensor,
        advantages: Tensor,
    ) -> "Rows":
        """Of rows with one advantage each: (rows,) lengths and advantages."""
        return cls(group_ids, session_ids, lengths, lengths * advantages, advantages, advantages)

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """The rows of several batches, in order."""
        columns = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        group_ids, session_ids, *numbers = columns
        return cls(list(chain(*group_ids)), list(chain(*session_ids)), *map(torch.cat, numbers))

    def responses(self, budget: float | None = None) -> Responses:
        """What the rows are as responses.

        Raises:
            ValueError: a budget that is not positive.
        """
        if budget is not None and budget <= 0:
            raise ValueError(f"response_budget={budget}; set it to the longest response allowed, in tokens")
        device = self.lengths.device
        groups, prompts = numbered(self.group_ids, device)
        lengths, sums, lowest, highest = self.lengths.double(), self.sums.double(), self.lowest, self.highest
        session = torch.arange(len(groups), device=device)
        if self.session_ids is not None and len(set(self.session_ids)) < len(groups):
            session, sessions = numbered(self.session_ids, device)
            lengths, sums = (torch.bincount(session, values, minlength=sessions) for values in (lengths, sums))
            lowest, highest = (
                bounds.new_zeros(sessions).scatter_reduce(0, session, bounds, reduce)
                for bounds, reduce in ((lowest, "amin"), (highest, "amax"))
            )
            groups = groups.new_zeros(sessions).scatter(0, session, groups)
        kept = lengths > 0
        number = torch.where(kept, kept.cumsum(0) - 1, -1)
        return Responses(
            lengths=lengths[kept],
            groups=groups[kept],
            advantages=sums[kept] / lengths[kept],
            lowest=lowest[kept],
            highest=highest[kept],
            total=len(lengths),
            prompts=prompts,
            budget=budget,
            of_row=number[session],
        )


def numbered(ids: Sequence[Hashable], device: torch.device) -> tuple[Tensor, int]:
    """(rows,) the ids as integers, numbered as they first appear, and how many different ones there are."""
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    return torch.tensor(list(map(numbers.__getitem__, values)), dtype=torch.long, device=device), len(numbers)
