"""The rules of loss aggregation: each gives every response of a batch a length divisor D_i.

Response i has token losses l_it, and a mini-batch N responses. Every aggregation here is

    loss = 1/N * sum_i  1/D_i * sum_t l_it

A rule is a function from :class:`Responses` to the (n,) divisors, and registering it under a name is all that it takes:
it is then an ``aggregation/NAME/…`` in the diagnostics, a line of `balanced-agg inspect` and a ``loss_agg_mode``.
Because divisors are computed of complete batches and travel with the rows, the gradient under any rule does not depend
on how rows are split over ranks and micro-batches.

A ``loss_agg_mode`` is ``RULE[:PARAMETER][@equal-mass]``. RULE is a mode below, or ``FILE.py:FUNCTION`` for a rule of
the user's. ``@equal-mass`` scales the divisors of a batch by one number, so that the gradient mass, the sum of
|A_i| L_i / D_i, is that of sequence aggregation: rules then differ in balance alone, not in the scale that learning
rate and gradient clipping see.

Torch is not imported here, so that commands which only need the names start quickly.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from balanced_agg.loss.responses import Responses

MODE_KEY = "actor_rollout_ref.actor.loss_agg_mode"
EQUAL_MASS = "equal-mass"
# RULE, PARAMETER and @equal-mass of a mode; a file's name may have colons and @ itself.
_MODE = re.compile(
    rf"(?P<rule>(?P<file>.+\.py):(?P<function>\w+)|[\w-]+?)(:(?P<parameter>[-+.\w]+))?(?P<scaled>@{EQUAL_MASS})?"
)


@dataclass(frozen=True)
class Rule:
    """A rule as it is used.

    Attributes:
        name: of it in configs/aggregation and in the metrics aggregation/NAME/….
        mode: the loss_agg_mode that chooses it.
        formula: D_i as a function of the responses that have tokens.
        by_group: whether it looks at groups or signs, so that it needs groups of several responses.
    """

    name: str
    mode: str
    formula: "Callable[[Responses], Tensor]"
    by_group: bool = True

    def divisors(self, responses: "Responses") -> "Tensor":
        """(n,) float64: D_i of each response.

        Raises:
            ValueError: the rule gave no finite positive number for each response, or has no sense for this batch.
        """
        if not len(responses.lengths):
            return responses.lengths
        divisors = self.formula(responses).double()
        if divisors.shape != responses.lengths.shape:
            raise ValueError(
                f"the rule {self.mode} gave divisors of the shape {tuple(divisors.shape)} for "
                f"{len(responses.lengths)} responses; let it return one for each"
            )
        if not bool(((divisors > 0) & (divisors < float("inf"))).all()):
            raise ValueError(f"the rule {self.mode} gave a divisor that is no finite positive number")
        return divisors


# Name -> rule, in the order of tables and pictures.
RULES: dict[str, Rule] = {}
_RULE_OF_MODE: dict[str, Rule] = {}


def register(name: str, mode: str | None = None, by_group: bool = True) -> Callable:
    """Make the decorated function the rule `name`, chosen by the loss_agg_mode `mode` (by default the name).

    The function takes the :class:`Responses` and may take one number more, with a default: ``mode:NUMBER`` sets it.
    """

    def registered(formula: "Callable[..., Tensor]") -> "Callable[..., Tensor]":
        RULES[name] = _RULE_OF_MODE[mode or name] = Rule(name, mode or name, formula, by_group)
        return formula

    return registered


@register("balanced")
def balanced(responses: "Responses") -> "Tensor":
    """Mean length of the responses in i's group that share the sign of i's advantage: Balanced Aggregation.

    arXiv 2605.04077. In a group of G responses, of which n_s have sign s and T_s tokens together, the token mean over
    sign s weighs n_s / G, and (n_s / G) / T_s = 1 / (G * mean length of s). Responses of advantage 0 are a sign of
    their own. A group whose responses all have one sign has the divisors of ``group-token-mean``.
    """
    return responses.mean_in(responses.signed_groups)


@register("token", "group-token-mean")
def group_token_mean(responses: "Responses") -> "Tensor":
    """Mean length of i's group: the token mean of each group, which weighs its number of responses.

    Token aggregation as the papers of DAPO (arXiv 2503.14476) and of Balanced Aggregation write it.
    """
    return responses.mean_in(responses.groups)


@register("batch_token", "token-mean", by_group=False)
def token_mean(responses: "Responses") -> "Tensor":
    """Mean length of all responses: verl's and TRL's token aggregation.

    verl takes the mean over each mini-batch, which needs no rule; here it is that of the whole batch.
    """
    return responses.lengths.mean().expand_as(responses.lengths)


@register("sequence", "seq-mean-token-mean", by_group=False)
def sequence_mean(responses: "Responses") -> "Tensor":
    """Length of response i: sequence aggregation, GRPO (arXiv 2402.03300)."""
    return responses.lengths


@register("dr_grpo", "seq-mean-token-sum-norm", by_group=False)
def constant(responses: "Responses") -> "Tensor":
    """A constant, the response budget: Dr. GRPO (arXiv 2503.20783).

    Raises:
        ValueError: the budget is not known.
    """
    if responses.budget is None:
        raise ValueError("seq-mean-token-sum-norm divides by the response budget; give response_budget, in tokens")
    return responses.lengths.new_full((len(responses.lengths),), responses.budget)


@register("sequence_sum", "seq-mean-token-sum", by_group=False)
def sequence_sum(responses: "Responses") -> "Tensor":
    """1: the mean over responses of their token sums."""
    return responses.lengths.new_ones(len(responses.lengths))


@register("token_sum", "token-sum", by_group=False)
def token_sum(responses: "Responses") -> "Tensor":
    """1/N: the sum over all tokens."""
    return responses.lengths.new_full((len(responses.lengths),), 1 / responses.total)


@register("prompt_mean", "prompt-mean")
def prompt_mean(responses: "Responses") -> "Tensor":
    """Tokens of i's group, times prompts / N: the token mean of each group, with equal weight a prompt.

    SkyRL's ``prompt_mean``. It is ``group-token-mean`` where all groups have as many responses, all with tokens; else a
    small group weighs as much as a large one.
    """
    tokens = responses.mean_in(responses.groups) * responses.size_of(responses.groups)
    return tokens * (responses.prompts / responses.total)


@register("sqrt_length", "sqrt-length", by_group=False)
def sqrt_length(responses: "Responses") -> "Tensor":
    """Square root of the length of response i, between sequence aggregation and a constant.

    In use as an advantage estimator of codescout (there on top of SkyRL's token mean). The gradient is larger than that
    of
    sequence aggregation by about the square root of a length: `sqrt-length@equal-mass` has its scale.
    """
    return responses.lengths.sqrt()


@register("delta_l", "delta-l", by_group=False)
def delta_l(responses: "Responses", alpha: float = 0.75) -> "Tensor":
    """C * L_i^alpha * mean over all responses j of L_j^-alpha, C the response budget: Delta L normalization.

    arXiv 2509.07558 and its authors' code, whose alpha for mathematics is .75. 1/D_i adds up to N/C whatever the
    lengths are; with alpha = 1 it is sequence aggregation times one number a step, with 0 the aggregation of Dr. GRPO.

    Raises:
        ValueError: the budget is not known.
    """
    return constant(responses) * responses.lengths**alpha * (responses.lengths**-alpha).mean()


@register("lambda_grpo", "lambda-grpo")
def lambda_grpo(responses: "Responses", exponent: float = 1.0) -> "Tensor":
    """Mean length of i's group, over f_i = G * softmax of h^lambda there, h = 1 + z/9, z the standardized length.

    lambda-GRPO (arXiv 2510.06870) with a fixed lambda; there it is learnt, from 0, where the rule is
    ``group-token-mean``. Above 0 long responses weigh more. z has the population's deviation and is 0 where the lengths
    of a group are equal. As its abstract and a reimplementation (grpo-composer) have it: the paper's own code could not
    be read.
    """
    groups, mean = responses.groups, responses.mean_in(responses.groups)
    deviation = responses.mean_in(groups, (responses.lengths - mean) ** 2).sqrt()
    standardized = (responses.lengths - mean) / deviation.clamp(min=1e-8)
    weights = ((1 + standardized / 9) ** exponent).exp()
    return mean * responses.mean_in(groups, weights) / weights


@register("sign_weights", "sign-weights")
def sign_weights(responses: "Responses", positive: float = 0.1) -> "Tensor":
    """Mean length of all responses, divided by .1 for the positive ones: their tokens weigh a tenth.

    The weights of W-REINFORCE (arXiv 2506.01347), whose code has them on a token mean, all tokens in its count.

    Raises:
        ValueError: advantages of both signs in one response (:attr:`Responses.signs`).
    """
    return token_mean(responses) / (1 - (1 - positive) * (responses.signs > 0).double())


# What verl has itself, in its own words; these names choose its own code.
VERL_MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
# Name of a rule, as in configs/aggregation -> the loss_agg_mode that chooses it.
AGGREGATIONS = {rule.name: rule.mode for rule in RULES.values()}


def is_plugin_mode(mode: str) -> bool:
    """Whether a loss_agg_mode is one that this package adds to verl's own; does not look into a file that it names."""
    match = _MODE.fullmatch(mode)
    return mode not in VERL_MODES and match is not None and (bool(match["file"]) or match["rule"] in _RULE_OF_MODE)


def mode_name(mode: str) -> str:
    """What the rule of a loss_agg_mode is called in metrics and pictures: NAME, with what is set behind it."""
    match = _MODE.fullmatch(mode)
    if match is None or not (match["file"] or match["rule"] in _RULE_OF_MODE):
        return mode
    name = match["function"] or _RULE_OF_MODE[match["rule"]].name
    return name + mode[len(match["rule"]) :]


@cache
def rule_of(mode: str) -> Rule:
    """The rule that a loss_agg_mode chooses, verl's own modes included.

    Raises:
        ValueError: an unknown rule, a file or function that is not there or cannot be imported, or a parameter that the
            rule does not take or that is no number.
    """
    match = _MODE.fullmatch(mode)
    if match and match["file"]:
        rule = Rule(mode_name(mode), mode, _function(match["file"], match["function"]))
    elif match and match["rule"] in _RULE_OF_MODE:
        rule = replace(_RULE_OF_MODE[match["rule"]], name=mode_name(mode), mode=mode)
    else:
        raise ValueError(
            f"unknown aggregation mode {mode!r}; choose one of {', '.join(_RULE_OF_MODE)}, or FILE.py:FUNCTION for a "
            "rule of your own"
        )
    if match["parameter"]:
        rule = replace(rule, formula=_with_parameter(rule.formula, match["parameter"], mode))
    return replace(rule, formula=partial(_equal_mass, rule)) if match["scaled"] else rule


def _equal_mass(rule: Rule, responses: "Responses") -> "Tensor":
    """The divisors of a rule times one number, by which the batch has the gradient mass of sequence aggregation."""
    divisors = rule.divisors(responses)
    weights = responses.advantages.abs()
    mass = (weights * responses.lengths / divisors).sum()
    # Without a gradient there is no mass to scale.
    return divisors * (mass / weights.sum() if float(mass) else 1.0)


def _with_parameter(formula: "Callable[..., Tensor]", text: str, mode: str) -> "Callable[[Responses], Tensor]":
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{mode}: {text!r} is no number") from None
    parameters = list(signature(formula).parameters)
    if len(parameters) != 2:
        raise ValueError(f"{mode}: this rule takes no parameter; leave :{text} out")
    return partial(formula, **{parameters[1]: number})


def _function(file: str, name: str) -> "Callable[[Responses], Tensor]":
    """The function of a user's file; a relative path is from the working directory."""
    spec = spec_from_file_location("balanced_agg_user_rule", Path(file).absolute())
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)
    except Exception as error:
        raise ValueError(f"the rule {file}:{name} cannot be loaded: {type(error).__name__}: {error}") from error
