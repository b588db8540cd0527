"""What the plugin adds to a run's log: the diagnostics of every step."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack

from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.plugin.loss import in_verl as verl_plugin
from tests.composed import compose_recipe

# Group, advantage and length of each response.
RESPONSES = [("a", 1.0, 2), ("a", 1.0, 4), ("a", -2.0, 6), ("b", 0.5, 3), ("b", -0.5, 5)]


def nested(rows: list[list[float]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


@pytest.fixture
def queue(monkeypatch):
    """verl's TransferQueue with RESPONSES in it, as the driver reads them, and a padding row behind them."""
    rows = dict(zip("vwxyz", RESPONSES, strict=True)) | {"pad": ("pad0", 9.0, 8)}

    def kv_batch_get(keys, partition_id, select_fields):
        assert partition_id == "train"
        fields = {
            "uid": NonTensorStack(*(rows[key][0] for key in keys)),
            "advantages": nested([[rows[key][1]] * rows[key][2] for key in keys]),
            "response_mask": nested([[1] * rows[key][2] for key in keys]),
        }
        return TensorDict({field: fields[field] for field in select_fields}, batch_size=len(keys))

    monkeypatch.setattr("transfer_queue.kv_batch_get", kv_batch_get)
    tags = [{}] * len(RESPONSES) + [{"is_padding": True}]
    return SimpleNamespace(keys=list(rows), tags=tags, partition_id="train")


def logged(queue, mode: str, loss_scale_factor: int | None = None) -> dict[str, float]:
    actor = {"loss_agg_mode": mode, "loss_scale_factor": loss_scale_factor}
    config = OmegaConf.create({"actor_rollout_ref": {"actor": actor}, "data": {"max_response_length": 16}})
    metrics = {"of": "verl"}
    verl_plugin._add_diagnostics(lambda *_, **__: None, SimpleNamespace(config=config), (queue, metrics, {}), {})
    return metrics


@pytest.mark.parametrize("mode", ["balanced", "token-mean", "seq-mean-token-mean"])
def test_every_step_logs_the_diagnostics_of_its_real_responses_under_any_mode(queue, mode):
    metrics = logged(queue, mode)
    ids, advantages, lengths = zip(*RESPONSES, strict=True)
    expected = aggregation_metrics(ids, torch.tensor(lengths), torch.tensor(advantages), 16)
    assert len(expected) == 6 + 5 * 5
    assert {f"aggregation/{name}": value for name, value in expected.items()}.items() <= metrics.items()
    assert metrics["of"] == "verl"


def test_dr_grpo_divides_by_the_constant_that_the_run_would_use(queue):
    by_length, by_factor = (logged(queue, "token-mean", factor) for factor in (None, 4))
    key = "aggregation/dr_grpo/drift"
    assert by_factor[key] == pytest.approx(4 * by_length[key])
    assert by_length[key] != 0


def test_one_variable_turns_the_diagnostics_off(queue, monkeypatch):
    monkeypatch.setenv(verl_plugin.METRICS_SWITCH, "0")
    assert logged(queue, "balanced") == {"of": "verl"}


def test_an_error_of_ours_ends_a_run_in_our_modes_and_costs_others_only_the_diagnostics(queue, monkeypatch, caplog):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setenv(verl_plugin.METRICS_SWITCH, "1")
    monkeypatch.setattr(verl_plugin, "aggregation_metrics", fail)
    with pytest.raises(ZeroDivisionError):
        logged(queue, "balanced")
    assert logged(queue, "token-mean") == logged(queue, "token-mean") == {"of": "verl"}
    assert caplog.text.count("no aggregation/* metrics from now on") == 1


def launch_config(mode: str):
    return compose_recipe("arithmetic", f"actor_rollout_ref.actor.loss_agg_mode={mode}")


def test_a_launch_in_our_modes_is_announced_in_one_line_and_in_verls_own_not_at_all(capsys):
    verl_plugin._check_and_announce(launch_config("balanced"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "loss_agg_mode=balanced, n=8, verl " in line
    verl_plugin._check_and_announce(launch_config("token-mean"))
    assert capsys.readouterr().out == ""


def test_an_untested_version_that_fits_is_one_warning(monkeypatch, caplog):
    monkeypatch.setattr(verl_plugin, "version", lambda distribution: "0.9.7")
    verl_plugin._check_and_announce(launch_config("balanced"))
    assert caplog.text.count("verl 0.9.7 fits it, untested") == 1
