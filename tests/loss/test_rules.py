"""Each rule by hand, the values of other frameworks' own tests, and rules of users."""

import math

import pytest
import torch
from hypothesis import given
from pytest import approx
from torch import Tensor

from balanced_agg.loss import rules
from balanced_agg.loss.aggregation import aggregate, length_divisors
from balanced_agg.loss.responses import Responses, Rows
from balanced_agg.loss.rules import RULES, is_plugin_mode, mode_name, rule_of
from tests.batches import MODES, Batch, batches, divisors_of

# Three responses of 2, 4 and 9 tokens to one prompt, advantages 1, -1, -1, and one of 6 tokens to another, advantage 0.
LENGTHS, ADVANTAGES, GROUPS, BUDGET = [2, 4, 9, 6], [1.0, -1.0, -1.0, 0.0], "aaab", 10


def softmax_weights(lengths: list[int], exponent: float) -> list[float]:
    """f_i of lambda-GRPO, as the formula is written."""
    mean = sum(lengths) / len(lengths)
    deviation = math.sqrt(sum((length - mean) ** 2 for length in lengths) / len(lengths))
    powers = [math.exp((1 + (length - mean) / deviation / 9) ** exponent) for length in lengths]
    return [len(lengths) * power / sum(powers) for power in powers]


HAND = {
    "balanced": [2, 6.5, 6.5, 6],
    "group-token-mean": [5, 5, 5, 6],
    "token-mean": [21 / 4] * 4,
    "seq-mean-token-mean": [2, 4, 9, 6],
    "seq-mean-token-sum-norm": [10] * 4,
    "seq-mean-token-sum": [1] * 4,
    "token-sum": [1 / 4] * 4,
    # 15 and 6 tokens of the prompts, 2 prompts for 4 responses
    "prompt-mean": [7.5, 7.5, 7.5, 3],
    "sqrt-length": [math.sqrt(2), 2, 3, math.sqrt(6)],
    "delta-l": [10 * x**0.75 * sum(y**-0.75 for y in LENGTHS) / 4 for x in LENGTHS],
    "delta-l:0": [10] * 4,
    # mean of 1/L = (18 + 9 + 4 + 6) / 36 / 4 = 37 / 144
    "delta-l:1": [10 * x * 37 / 144 for x in LENGTHS],
    "lambda-grpo": [*(5 / f for f in softmax_weights([2, 4, 9], 1)), 6],
    "lambda-grpo:-3": [*(5 / f for f in softmax_weights([2, 4, 9], -3)), 6],
    "lambda-grpo:0": [5, 5, 5, 6],
    "sign-weights": [52.5, 5.25, 5.25, 5.25],
    "sign-weights:0.5": [10.5, 5.25, 5.25, 5.25],
    # masses |A| L / D are 2/5, 4/5, 9/5 = 3, as of sequence aggregation; those of sqrt-length 1.414, 2, 3
    "group-token-mean@equal-mass": [5, 5, 5, 6],
    "sqrt-length@equal-mass": [x * (math.sqrt(2) + 5) / 3 for x in (math.sqrt(2), 2, 3, math.sqrt(6))],
    "delta-l:1@equal-mass": LENGTHS,
}


def matrices(lengths: list[int], advantages: list[float]) -> tuple[Tensor, Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return torch.tensor(advantages)[:, None] * mask, mask


@pytest.mark.parametrize("mode", HAND)
def test_divisors_by_hand(mode: str):
    found = length_divisors(mode, GROUPS, *matrices(LENGTHS, ADVANTAGES), response_budget=BUDGET)
    assert found.tolist() == approx(HAND[mode], rel=1e-6)


def test_every_rule_has_a_hand_value_and_says_what_it_is():
    assert {rule.mode for rule in RULES.values()} <= HAND.keys()
    assert [rule.mode for rule in RULES.values() if len(rule.formula.__doc__ or "") < 20] == []


@given(batch=batches())
def test_equal_mass_is_the_mass_of_sequence_aggregation(batch: Batch):
    responses = Rows.measured(batch.group_ids, None, batch.advantages, batch.mask).responses(budget=8)
    wanted = responses.advantages.abs().sum().item()
    for rule in RULES.values():
        divisors = rule_of(f"{rule.mode}@equal-mass").divisors(responses)
        mass = responses.advantages.abs() * responses.lengths / divisors
        assert mass.sum().item() == approx(wanted)
        # One number for the whole batch.
        ratio = divisors / rule.divisors(responses)
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


# ---- values of other frameworks' own tests (docs/rules.md has the versions)


def loss_of(mode: str, losses: list, mask: list, groups: str, sessions: str | None = None) -> float:
    losses, mask = torch.tensor(losses, dtype=torch.double), torch.tensor(mask)
    divisors = length_divisors(mode, groups, torch.ones_like(losses), mask, sessions, response_budget=10)
    return aggregate(losses, mask, divisors, len(set(sessions or range(len(losses))))).item()


EIGHT = [[1, 2], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("mode", "losses", "mask", "groups", "value"),
    [
        ("token-mean", [[1, 2, 3], [4, 5, 6]], [[1, 1, 0], [1, 1, 1]], "ab", 18 / 5),
        ("token-mean", [[1, 2]], [[0, 0]], "a", 0),
        ("seq-mean-token-mean", [[1, 2], [3, 4]], [[1, 1], [1, 0]], "ab", 2.25),
        ("seq-mean-token-sum-norm", [[2, 3], [9, 12]], [[1, 1], [1, 0]], "ab", 0.7),
        ("prompt-mean", EIGHT, [[1, 1], [1, 0], [1, 1], [1, 1]], "aabb", 4.25),
        # unequal groups: token means 3/2 and 29/5
        ("prompt-mean", EIGHT, [[1, 1], [1, 0], [1, 1], [1, 1]], "abbb", 3.65),
        ("group-token-mean", EIGHT, [[1, 1], [1, 0], [1, 1], [1, 1]], "abbb", 4.725),
        # an empty response: token means 3/2 and 26/4
        ("prompt-mean", EIGHT, [[1, 1], [0, 0], [1, 1], [1, 1]], "aabb", 4.0),
        ("group-token-mean", EIGHT, [[1, 1], [0, 0], [1, 1], [1, 1]], "aabb", 3.625),
    ],
)
def test_skyrls_values(mode: str, losses: list, mask: list, groups: str, value: float):
    assert loss_of(mode, losses, mask, groups) == approx(value, rel=1e-6)


def test_slimes_value_of_a_rollout_of_three_rows_and_one_of_one():
    losses = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    ones = [[1, 1, 1]] * 4
    # (45 / 9 + 33 / 3) / 2; with each row a response (2 + 5 + 8 + 11) / 4
    assert loss_of("seq-mean-token-mean", losses, ones, "aaab", "xxxy") == approx(8.0)
    assert loss_of("seq-mean-token-mean", losses, ones, "aaab") == approx(6.5)


@pytest.mark.parametrize("alpha", [0, 0.5, 0.75, 1])
def test_delta_ls_weights_add_up_to_the_same_whatever_the_lengths_are(alpha: float):
    divisors = length_divisors(f"delta-l:{alpha}", GROUPS, *matrices(LENGTHS, ADVANTAGES), response_budget=BUDGET)
    assert (1 / divisors).sum().item() == approx(len(LENGTHS) / BUDGET)


# ---- responses that are several rows


def test_four_sessions_of_which_the_wrong_ones_have_three_rows_are_balanced():
    advantages, mask = matrices([10] * 8, [1.0, 1, -1, -1, -1, -1, -1, -1])
    divisors = length_divisors("balanced", "a" * 8, advantages, mask, "pqrrrsss")
    assert divisors.tolist() == [10, 10, 30, 30, 30, 30, 30, 30]
    assert aggregate(-advantages, mask, divisors, 4).item() == approx(0, abs=1e-7)
    responses = Rows.measured("a" * 8, "pqrrrsss", advantages, mask).responses()
    assert responses.total == 4
    assert responses.lengths.tolist() == [10, 10, 30, 30]


@pytest.mark.parametrize("mode", MODES)
@given(batch=batches(clean=True))
def test_a_response_has_the_same_divisor_whichever_rows_it_is_made_of(mode: str, batch: Batch):
    """Each token a row of its own: rows of one column, whose session is the row that they were."""
    rows, width = batch.mask.shape
    groups = [group for group in batch.group_ids for _ in range(width)]
    sessions = [row for row in range(rows) for _ in range(width)]
    found = length_divisors(mode, groups, batch.advantages.view(-1, 1), batch.mask.view(-1, 1), sessions, 8)
    torch.testing.assert_close(found, divisors_of(mode, batch).repeat_interleave(width), rtol=2e-7, atol=0)


def test_joined_rows_are_those_of_all_parts_in_order():
    parts = [
        Rows.of_lengths(groups, sessions, torch.tensor(lengths), torch.tensor(advantages).double())
        for groups, sessions, lengths, advantages in (
            ("aab", "pqr", [2, 3, 4], [1.0, -1.0, 1.0]),
            ("cc", "ss", [5, 6], [-2.0, -2.0]),
            ("", "", [], []),
        )
    ]
    joined = Rows.joined(parts)
    assert (joined.group_ids, joined.session_ids) == (list("aabcc"), list("pqrss"))
    assert joined.lengths.tolist() == [2, 3, 4, 5, 6]
    assert joined.lowest.tolist() == [1, -1, 1, -2, -2]
    assert joined.responses().lengths.tolist() == [2, 3, 4, 11]


def test_rows_of_one_session_with_different_signs_are_refused():
    with pytest.raises(ValueError, match=r"1 responses \(first: row 1\)"):
        length_divisors("balanced", "aaa", *matrices([2, 2, 2], [0.0, 1.0, -1.0]), "xyy")


# ---- names, parameters, and rules of users


@pytest.mark.parametrize(
    ("mode", "name", "ours"),
    [
        ("balanced", "balanced", True),
        ("group-token-mean", "token", True),
        ("token-mean", "batch_token", False),
        ("token-mean@equal-mass", "batch_token@equal-mass", True),
        ("delta-l:0.5@equal-mass", "delta_l:0.5@equal-mass", True),
        ("some/where/rules.py:half", "half", True),
        ("a:b@c/rules.py:half:2@equal-mass", "half:2@equal-mass", True),
        ("ballanced", "ballanced", False),
        ("ballanced:2", "ballanced:2", False),
    ],
)
def test_a_mode_is_a_rule_a_parameter_and_a_scale(mode: str, name: str, ours: bool):
    assert mode_name(mode) == name
    assert is_plugin_mode(mode) == ours


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("balanced:2", "takes no parameter"),
        ("delta-l:half", "'half' is no number"),
        ("balanced@equal", "unknown aggregation mode"),
        ("absent.py:rule", "FileNotFoundError"),
    ],
)
def test_what_is_no_mode_is_refused(mode: str, message: str):
    with pytest.raises(ValueError, match=message):
        rule_of(mode)


RULE_FILE = '''
def longest(responses):
    """The longest of i's group."""
    group = responses.groups
    return responses.lengths.new_zeros(group.max() + 1).scatter_reduce(0, group, responses.lengths, "amax")[group]

def power(responses, exponent=1.0):
    return responses.lengths ** exponent

def negative(responses):
    return -responses.lengths

def scalar(responses):
    return responses.lengths.mean()
'''


@pytest.fixture
def rule_file(tmp_path) -> str:
    file = tmp_path / "my rules.py"
    file.write_text(RULE_FILE)
    return str(file)


def test_a_rule_of_a_users_file_is_a_mode_like_the_others(rule_file: str):
    batch = matrices(LENGTHS, ADVANTAGES)
    assert length_divisors(f"{rule_file}:longest", GROUPS, *batch).tolist() == [9, 9, 9, 6]
    assert length_divisors(f"{rule_file}:power:2", GROUPS, *batch).tolist() == [4, 16, 81, 36]


@pytest.mark.parametrize(
    ("name", "message"), [("negative", "no finite positive"), ("scalar", "shape"), ("absent", "no attribute 'absent'")]
)
def test_a_rule_that_gives_no_divisors_is_refused(rule_file: str, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        length_divisors(f"{rule_file}:{name}", GROUPS, *matrices(LENGTHS, ADVANTAGES))


def test_a_registered_rule_is_a_mode(monkeypatch):
    for table in (rules.RULES, rules._RULE_OF_MODE):
        monkeypatch.setitem(table, "double", None)  # so that it is taken out again

    @rules.register("double")
    def double(responses: Responses) -> Tensor:
        return 2 * responses.lengths

    assert length_divisors("double", GROUPS, *matrices(LENGTHS, ADVANTAGES)).tolist() == [4, 8, 18, 12]
