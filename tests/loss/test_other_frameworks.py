"""The classes of docs/rules.md that carry a rule to other frameworks, on these frameworks' own code.

Their wheels go to folders of their own, without what they depend on: verl breaks beside this TRL, and SkyRL does not
import without much that nothing here uses.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from balanced_agg.loss.aggregation import aggregate, length_divisors
from tests.composed import ROOT
from tests.test_docs import named_files

pytestmark = pytest.mark.slow


def install(requirement: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder]
    subprocess.run([*pip, requirement], check=True)
    return folder


def test_trls_gradients_are_those_of_the_rule(tmp_path):
    wheel = install("trl==1.16.0", tmp_path / "trl")
    (tmp_path / "trl_rules.py").write_text(named_files()["trl_rules.py"])
    # TRL imports vLLM where it finds it, which takes seconds and brings nothing here.
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["vllm"] = None\n')
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join(map(str, (ROOT, wheel, tmp_path)))
    done = subprocess.run(
        [*launch, ROOT / "tests/loss/trl_gradients.py", tmp_path / "out.json"],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "out.json").read_text())
    steps = [step for steps in found.values() for step in steps]
    print(f"\nlargest difference {max(step['difference'] for step in steps):.2g} of the largest gradient")
    assert [len(steps) for steps in found.values()] == [2] * 4
    assert all(step["difference"] < 1e-6 for step in steps)
    # The test can fail: TRL's own token mean is another gradient.
    assert all(step["difference_of_token_mean"] > 0.1 for step in steps)
    assert {rule for rule, (_, last) in found.items() if last["clipped"] > 0.1} == {"group-token-mean", "delta-l"}
    assert {rule for rule, of in found.items() if of[0]["without_tokens"]} == {"seq-mean-token-mean"}


class Rows(dict):
    """SkyRL's TrainingInputBatch, as far as it is used here: tensors by name, and slices of all of them."""

    def __getitem__(self, key: str | slice):
        if isinstance(key, str):
            return super().__getitem__(key)
        return Rows({name: tensor[key] for name, tensor in self.items()})


def definition(file: Path, name: str) -> str:
    """The source of a function or method of this name."""
    text = file.read_text()
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(found) == 1
    return dedent("\n".join(text.split("\n")[found[0].lineno - 1 : found[0].end_lineno]))


@pytest.fixture
def skyrl_trainer(tmp_path, monkeypatch):
    """The example's class, on top of SkyRL's own normalization of advantages and its reduction."""
    package = install("skyrl==0.3.0", tmp_path) / "skyrl"
    skyrl = {"torch": torch}
    for file, name in (
        ("backends/skyrl_train/utils/ppo_utils.py", "apply_loss_reduction_to_advantages_minibatch"),
        ("train/trainer.py", "_normalize_advantages"),
    ):
        exec("from __future__ import annotations\n" + definition(package / file, name), skyrl)
    for name in ("skyrl", "skyrl.train", "skyrl.train.trainer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    base = type("RayPPOTrainer", (), {"_normalize_advantages": skyrl["_normalize_advantages"]})
    sys.modules["skyrl.train.trainer"].RayPPOTrainer = base
    example = {}
    exec(named_files()["skyrl_rules.py"], example)
    trainer = example["RuleTrainer"]()
    algorithm = {"advantage_batch_normalize": False, "loss_reduction": "token_mean", "max_seq_len": None}
    trainer.cfg = namespace(
        trainer={"algorithm": algorithm, "micro_train_batch_size_per_gpu": 1},
        generator={"sampling_params": {"max_generate_length": 8}},
    )
    return trainer


def namespace(**values) -> SimpleNamespace:
    return SimpleNamespace(**{k: namespace(**v) if isinstance(v, dict) else v for k, v in values.items()})


def test_skyrls_reduction_of_rescaled_advantages_is_the_rule(skyrl_trainer):
    # Two mini-batches of groups of unequal size, an empty response, and a row of padding behind the last.
    boundaries, prompts = [(0, 6), (6, 12)], [(0, 2), (2, 6), (6, 9), (9, 12)]
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (13,), generator=generator)
    lengths[4] = 0
    mask = (torch.arange(8) < lengths[:, None]).double()
    advantages = torch.randn(13, 1, generator=generator).double() * mask
    ratio = 2 * torch.rand(mask.shape, generator=generator).double()

    def token_losses(advantages: Tensor) -> Tensor:
        return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)

    for rule in ("balanced", "group-token-mean", "prompt-mean", "delta-l"):
        skyrl_trainer.rule = rule
        data = Rows(advantages=advantages, loss_mask=mask, response_mask=mask)
        rescaled = skyrl_trainer._normalize_advantages(data, boundaries, prompts)["advantages"]
        for first, end in boundaries:
            rows = slice(first, end)
            groups = [next(p for p, (_, last) in enumerate(prompts) if row < last) for row in range(first, end)]
            divisors = length_divisors(rule, groups, advantages[rows], mask[rows], response_budget=8)
            expected = aggregate(token_losses(advantages)[rows], mask[rows], divisors, end - first)
            # SkyRL adds up what its policy losses give.
            assert (token_losses(rescaled) * mask)[rows].sum().item() == pytest.approx(expected.item(), rel=1e-6)


def test_skyrls_other_reductions_are_refused(skyrl_trainer):
    skyrl_trainer.cfg.trainer.algorithm.loss_reduction = "sequence_mean"
    with pytest.raises(ValueError, match="token_mean"):
        skyrl_trainer._normalize_advantages(Rows(), [], [])
