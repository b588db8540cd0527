"""What the plugin adds to a run's log: the diagnostics of every step."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack

from balanced_agg.loss.diagnostics import aggregation_metrics
from balanced_agg.loss.responses import Rows
from balanced_agg.plugin.loss import in_verl as verl_plugin
from balanced_agg.plugin.loss import updates
from tests.composed import compose_recipe

# Key, advantage and length of each row: the session a_2 has two rows.
ROWS = [
    ("a_0_0", 1.0, 2),
    ("a_1_0", 1.0, 4),
    ("a_2_0", -2.0, 3),
    ("a_2_1", -2.0, 3),
    ("b_0_0", 0.5, 3),
    ("b_1_0", -0.5, 5),
]
PADDING = [(f"pad{0:032x}_{number}_0", 9.0, 8) for number in range(2)]


def nested(rows: list[list[float]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


@pytest.fixture
def queue(monkeypatch):
    """verl's TransferQueue with ROWS in it, as the driver reads them, and padding rows among them."""
    rows = {key: (key.split("_")[0], *numbers) for key, *numbers in ROWS + PADDING}
    written = {}

    def kv_batch_get(keys, partition_id, select_fields):
        assert partition_id == "train"
        fields = {
            "uid": NonTensorStack(*(rows[key][0] for key in keys)),
            "advantages": nested([[rows[key][1]] * rows[key][2] for key in keys]),
            "response_mask": nested([[1] * rows[key][2] for key in keys]),
        }
        return TensorDict({field: fields[field] for field in select_fields}, batch_size=len(keys))

    def kv_batch_put(keys, partition_id, fields):
        written.update(zip(keys, fields["length_divisor"].tolist(), strict=True))

    monkeypatch.setattr("transfer_queue.kv_batch_get", kv_batch_get)
    monkeypatch.setattr("transfer_queue.kv_batch_put", kv_batch_put)
    keys = [PADDING[0][0], *list(rows)[:6], PADDING[1][0]]
    tags = [{"is_padding": True}, *[{}] * 6, {"is_padding": True}]
    return SimpleNamespace(keys=keys, tags=tags, partition_id="train", written=written)


def part_of(queue, first: int, last: int) -> SimpleNamespace:
    return SimpleNamespace(keys=queue.keys[first:last], tags=queue.tags[first:last], partition_id="train")


def make_trainer(mode: str, loss_scale_factor: int | None = None) -> SimpleNamespace:
    """Two ranks, and optimizer steps of four rows: the first has rows 0, 1, 4 and 5, the second the others."""
    actor = {"loss_agg_mode": mode, "loss_scale_factor": loss_scale_factor, "ppo_mini_batch_size": 2, "shuffle": False}
    config = {"actor_rollout_ref": {"actor": actor, "rollout": {"n": 2}}, "data": {"max_response_length": 16}}
    ranks = SimpleNamespace(_dispatch_info={"actor": [0, 1]})
    return SimpleNamespace(config=OmegaConf.create(config), actor_rollout_wg=ranks)


def logged(queue, mode: str, loss_scale_factor: int | None = None) -> dict[str, float]:
    """What a step adds to verl's metrics."""
    trainer = make_trainer(mode, loss_scale_factor)
    metrics = {"of": "verl", "actor/clipped_steps": 0.25}
    verl_plugin._write_divisors(lambda *_, **__: queue, trainer, (queue, metrics), {})
    verl_plugin._add_diagnostics(lambda *_, **__: None, trainer, (queue, metrics, {}), {})
    assert verl_plugin.UPDATES not in vars(trainer)
    return metrics


def of_sessions() -> dict[str, float]:
    responses = [("a", 1.0, 2), ("a", 1.0, 4), ("a", -2.0, 6), ("b", 0.5, 3), ("b", -0.5, 5)]
    ids, advantages, lengths = zip(*responses, strict=True)
    advantages, lengths = torch.tensor(advantages).double(), torch.tensor(lengths)
    return aggregation_metrics(Rows.of_lengths(ids, None, lengths, advantages).responses(16))


@pytest.mark.parametrize("mode", ["balanced", "token-mean", "seq-mean-token-mean", "delta-l:0.5"])
def test_every_step_logs_the_diagnostics_of_its_real_responses_under_any_mode(queue, mode):
    metrics = logged(queue, mode)
    expected = {f"aggregation/{name}": value for name, value in of_sessions().items()}
    assert len(expected) == 6 + 12 * 5
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["of"] == "verl"
    own = {name for name in metrics.keys() - expected.keys() if name.startswith("aggregation/")}
    by_step = {"step_positive_share_min", "step_positive_share_max", "cut_groups", "clipped_steps"}
    measures = ("drift", "positive_share", "effective_sequences", "long_token_weight", "long_token_weight_within_sign")
    further = {f"delta_l:0.5/{measure}" for measure in measures} if mode == "delta-l:0.5" else set()
    assert own == {f"aggregation/{name}" for name in by_step | further}


def test_optimizer_steps_are_those_that_verl_will_make(queue):
    metrics = logged(queue, "seq-mean-token-mean")
    # Rows by step: padding, a_0_0, a_2_1, b_0_0, and a_1_0, a_2_0, b_1_0, padding. A response has the mass |A|.
    assert metrics["aggregation/step_positive_share_max"] == pytest.approx(1.5 / 2.5)
    assert metrics["aggregation/step_positive_share_min"] == pytest.approx(1 / 2.5)
    assert metrics["aggregation/cut_groups"] == 1
    assert metrics["aggregation/clipped_steps"] == 0.25
    assert "actor/clipped_steps" not in metrics


def test_a_step_of_several_updates_measures_them_together(queue):
    trainer = make_trainer("balanced")
    whole = updates.read_update(trainer, queue)
    first, second = (updates.read_update(trainer, part) for part in (part_of(queue, 0, 3), part_of(queue, 3, 7)))
    found = updates.metrics_of([first, second], trainer.config)
    expected = updates.metrics_of([whole], trainer.config)
    by_step = {f"aggregation/{name}" for name in ("step_positive_share_min", "step_positive_share_max", "cut_groups")}
    other = {name for name in expected if name.startswith("aggregation/")} - by_step
    assert {name: found[name] for name in other} == pytest.approx({name: expected[name] for name in other})
    assert by_step < found.keys()


def test_shuffled_rows_have_no_known_optimizer_steps(queue):
    trainer = make_trainer("balanced")
    trainer.config.actor_rollout_ref.actor.shuffle = True
    assert updates.read_update(trainer, queue).steps is None


def test_divisors_count_sessions_where_verl_divides_by_rows(queue):
    logged(queue, "balanced")
    # Means of the signs 3, 6, 3, 5; five responses in eight rows.
    assert [queue.written[key] for key, *_ in ROWS] == pytest.approx([x * 5 / 8 for x in (3, 3, 6, 6, 3, 5)])
    assert [queue.written[key] for key, *_ in PADDING] == [1, 1]


def test_dr_grpo_divides_by_the_constant_that_the_run_would_use(queue):
    by_length, by_factor = (logged(queue, "token-mean", factor) for factor in (None, 4))
    key = "aggregation/dr_grpo/drift"
    assert by_factor[key] == pytest.approx(4 * by_length[key])
    assert by_length[key] != 0


def test_one_variable_turns_the_diagnostics_off(queue, monkeypatch):
    monkeypatch.setenv(verl_plugin.METRICS_SWITCH, "0")
    assert logged(queue, "token-mean") == {"of": "verl"}
    assert not queue.written
    assert logged(queue, "balanced") == {"of": "verl"}
    assert queue.written


@pytest.mark.parametrize("failing", ["read_update", "metrics_of"])
def test_an_error_of_ours_ends_a_run_in_our_modes_and_costs_others_only_the_diagnostics(
    queue, monkeypatch, caplog, failing
):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setenv(verl_plugin.METRICS_SWITCH, "1")
    monkeypatch.setattr(verl_plugin, failing, fail)
    with pytest.raises(ZeroDivisionError):
        logged(queue, "balanced")
    assert logged(queue, "token-mean") == logged(queue, "token-mean") == {"of": "verl"}
    assert caplog.text.count("no aggregation/* metrics from now on") == 1


def test_a_mode_of_a_later_verl_has_the_diagnostics_of_the_known_ones(queue):
    metrics = logged(queue, "group-mean-of-verl")
    assert "aggregation/token/drift" in metrics
    assert "aggregation/step_positive_share_min" not in metrics


@pytest.mark.parametrize(("norm", "clipped"), [(0.5, 0.0), (1.5, 1.0)])
def test_an_optimizer_step_says_whether_it_was_clipped(norm, clipped):
    optimizer, model = SimpleNamespace(clip_grad=1.0), SimpleNamespace(model_type="language_model")
    worker = SimpleNamespace(optimizer_config=optimizer, config=model)
    output = verl_plugin._count_clipping(lambda _: {"metrics": {"grad_norm": norm}}, worker, ({},), {})
    assert output["metrics"] == {"grad_norm": norm, "clipped_steps": clipped}
    assert verl_plugin._count_clipping(lambda _: {"metrics": {}}, worker, ({},), {}) == {"metrics": {}}


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
