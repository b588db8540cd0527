"""A recipe as the doctor composes it: what refuses it, and how many checkpoints it has on disk."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from balanced_agg.commands.doctor import recipe as examined
from balanced_agg.commands.doctor.check import FAIL, DoesNotCompose
from balanced_agg.commands.doctor.recipe import Recipe, examine, refusals
from balanced_agg.commands.doctor.recipe_lines import check_recipe, checkpoints_on_disk
from balanced_agg.plugin.checks import CHECKS
from tests.composed import ROOT, compose_recipe, stand_in_data
from tests.plugin.guard.test_resume import Trainer


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.delenv("BALANCED_AGG_ROOT", raising=False)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BALANCED_AGG_GUARD", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where no cluster has left its address
    monkeypatch.setattr(examined, "auto_set_device", lambda config: None)  # verl has long chosen in this process
    without_model = tuple(check for check in CHECKS if check.__name__ != "check_chat_template")  # it is not prepared
    monkeypatch.setattr(examined, "CHECKS", without_model)
    yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def refused(tmp_path):
    def checks(*overrides: str) -> set[str]:
        config = compose_recipe("arithmetic", *overrides)
        stand_in_data(config, tmp_path)
        return {refusal.check.removeprefix("refused: ") for refusal in refusals(config)}

    return checks


def test_a_sound_recipe_is_refused_by_nothing(refused):
    assert refused() == set()


def test_all_refusals_are_found_not_only_the_first(refused):
    overrides = ("actor_rollout_ref.rollout.n=1", "ray_kwargs.ray_init.num_cpus=3")
    assert refused(*overrides) == {"aggregation", "ray_cpus"}


def test_verls_own_validation_is_asked_too(refused):
    micro_batches_of_no_size = "actor_rollout_ref.actor.use_dynamic_bsz=False"
    assert refused(micro_batches_of_no_size) == {"verl's validation"}


def test_what_comes_of_a_refusal_is_not_another_one(refused):
    assert refused("data.max_prompt_length=null") == {"numbers"}  # of which later checks crash
    assert refused("data.train_batch_size=5000", "trainer.nnodes=2") == {"steps", "cluster"}


def test_missing_data_is_named_once():
    config = compose_recipe("arithmetic", "data.train_files=/nowhere/a.parquet", "data.val_files=/nowhere/b.parquet")
    (refusal,) = refusals(config)
    assert refusal.check == "refused: data_files"


def test_hardware_cpu_without_its_platform_is_refused_as_the_launcher_would(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    assert examine("arithmetic", []).refused_by("platform")


@pytest.mark.parametrize(
    ("override", "said"), [("hardware=banana", "1gpu"), ("no.such_key=1", "no.such_key"), ("run.model_size=9b", "9b")]
)
def test_what_does_not_compose_is_one_line_that_names_it(override, said):
    with pytest.raises(DoesNotCompose, match=rf"^arithmetic does not compose: .*{said}[^\n]*$"):
        examine("arithmetic", [override])


def test_a_platform_that_verl_does_not_know_is_one_failure_of_the_recipe(monkeypatch):
    def unknown(config):
        raise ValueError("Unknown platform 'tpu'")

    monkeypatch.setattr(examined, "auto_set_device", unknown)
    (line,) = check_recipe(examine("arithmetic", []))
    assert (line.status, line.detail) == (FAIL, "arithmetic: ValueError: Unknown platform 'tpu'")


def config_of(save_freq=10, keep=None, steps=40, async_save=False, **trainer):
    trainer |= {"save_freq": save_freq, "max_actor_ckpt_to_keep": keep, "total_training_steps": steps}
    actor = {"checkpoint": {"async_save": async_save}}
    algorithm = {"adv_estimator": "grpo"}
    return OmegaConf.create(
        {"trainer": trainer, "algorithm": algorithm, "actor_rollout_ref": {"actor": actor}, "critic": {"enable": None}}
    )


@pytest.mark.parametrize(
    ("settings", "guarded", "alone"),
    [
        ({"save_freq": -1, "keep": 2}, 0, 0),
        ({"save_freq": 20, "keep": 3}, 2, 2),  # of 40 steps, as many are made
        ({"keep": 3}, 4, 3),
        ({"keep": 2}, 3, 2),
        ({"keep": 1}, 2, 2),
        ({"keep": 2, "remove_previous_ckpt_in_save": True}, 2, 2),
        ({"keep": 2, "async_save": True}, 2, 2),
        ({"keep": None}, 4, 4),
        ({"keep": None, "steps": None}, None, None),
    ],
)
def test_checkpoints_on_disk_are_counted_by_hand(monkeypatch, settings, guarded, alone):
    recipe = Recipe("r", config_of(**settings))
    assert checkpoints_on_disk(recipe) == guarded
    monkeypatch.setenv("BALANCED_AGG_GUARD", "0")
    assert checkpoints_on_disk(recipe) == alone


class Watched(Trainer):
    """A trainer that saves, by the guard or by verl alone, and remembers the most actors it ever had on disk."""

    def __init__(self, run, guarded: bool, **settings):
        super().__init__(run, **settings)
        self.run, self.guarded, self.most = run, guarded, 0
        register = self.manager.register_checkpoint
        self.manager.register_checkpoint = lambda *arguments: (self._write("registered"), register(*arguments))

    def _write(self, what: str):
        self.most = max(self.most, len(list(self.run.glob("global_step_*/actor/model.pt"))))

    def save(self):
        if self.guarded:
            return super().save()
        self.global_steps += 1
        self._verls_own()


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("keep", [None, 1, 2, 3])
def test_as_many_checkpoints_lie_on_disk_as_the_doctor_says(monkeypatch, tmp_path, keep, guarded):
    monkeypatch.setenv("BALANCED_AGG_GUARD", str(int(guarded)))
    trainer = Watched(tmp_path, guarded, max_actor_ckpt_to_keep=keep)
    for _ in range(5):
        trainer.save()
    assert trainer.most == checkpoints_on_disk(Recipe("r", config_of(keep=keep, steps=50)))
