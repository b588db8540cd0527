"""README and docs tell the truth: what they name exists, what they tell to type composes, what they show runs."""

import importlib.util
import re
import shlex
import shutil
import tomllib
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import typer
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from balanced_agg.commands.cli import app
from balanced_agg.loss.aggregation import length_divisors
from balanced_agg.loss.rules import rule_of
from balanced_agg.plugin.loss.refusals import check_rule
from tests.composed import ROOT

TOPICS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *TOPICS]
QUICKSTART = ROOT / "scripts/quickstart.sh"
FOLDERS = ("balanced_agg", "configs", "data", "docker", "docs", "recipes", "scripts", "tests", ".ci", ".github")
# Commands that are looked at only for the files of the checkout that they name.
OTHER_PROGRAMS = {"apt-get", "docker", "export", "git", "kubectl", "ruff", "sky", "source", "wandb"}
WITH_OVERRIDES = {"train", "sweep", "submit", "doctor"}

FILE_COMMENT = re.compile(r"# ([\w./]+\.(?:py|yaml))\n")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z]+(/[A-Z]+)*|…")
KEY = re.compile(r"\+?([a-z_]+(?:\.[a-z_]\w*)+)(=.*)?")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


@cache
def blocks(page: Path) -> list[Block]:
    return [Block(language, dedent(text)) for _, language, text in FENCE.findall(page.read_text())]


@cache
def code_spans(page: Path) -> list[str]:
    """`Inline code`, outside of fenced blocks; a line's end in a span is a space."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text()))]


def is_command(span: str) -> bool:
    return span.startswith((".venv/bin/", "balanced-agg ", "bash ", "python ", "pip ", "scripts/", "wandb "))


@cache
def commands(page: Path) -> list[list[str]]:
    """The words of each command line in a `bash` block or in inline code, without comments and variables set for it."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in joined(block.text).splitlines()]
    found = []
    for line in lines + [span for span in code_spans(page) if is_command(span)]:
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


def joined(text: str) -> str:
    return text.replace("\\\n", " ")


def named_files() -> dict[str, str]:
    """Path -> text of the example files of the docs: blocks whose first line is a comment with their path."""
    found = {}
    for block in (block for page in PAGES for block in blocks(page)):
        if match := FILE_COMMENT.match(block.text):
            found[match[1]] = block.text.removeprefix(match[0])
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Configs and recipes of this checkout, and those that the docs tell to write."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "recipes"):
        shutil.copytree(ROOT / name, folder / name)
    for path, text in named_files().items():
        if path.endswith(".yaml"):
            (folder / path).write_text(text)
    return folder


def composed(checkout: Path, recipe: str, overrides: list[str]) -> DictConfig:
    searchpath = f"hydra.searchpath=[pkg://verl.trainer.config,file://{checkout}/configs]"
    with initialize_config_dir(str(checkout / "recipes"), version_base=None):
        return compose(recipe, [searchpath, f"run.root={checkout}", *overrides])


def with_overrides(words: list[str]) -> tuple[str, list[str]] | None:
    """Recipe and overrides of a command that takes both."""
    if words[0] == "balanced-agg" and words[1] in WITH_OVERRIDES:
        rest = words[2:]
    elif any(word.endswith(("scripts/train.sh", "scripts/sweep.sh", "scripts/slurm.sbatch")) for word in words):
        rest = words[1 + [word.endswith((".sh", ".sbatch")) for word in words].index(True) :]
    elif "verl.trainer.main_ppo" in words:
        rest = ["ppo_trainer", *words[words.index("verl.trainer.main_ppo") + 1 :]]
        if "--config-name" in rest:
            rest = rest[rest.index("--config-name") + 1 :]
    else:
        return None
    rest = [word for word in rest if not word.startswith("-") and not re.fullmatch(r"\[?OVERRIDES…?\]?|…", word)]
    if not rest or PLACEHOLDER.fullmatch(rest[0]):
        return None
    # Where things are on the reader's machine is another matter than here.
    return rest[0], [word for word in rest[1:] if "=" in word and not word.startswith(("hydra.searchpath", "run.root"))]


def test_the_readme_is_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\(docs/([\w.]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {page.name for page in TOPICS}


def test_the_picture_of_the_readme_shows_what_the_code_computes():
    """Of each of its three groups: the lengths, and under each aggregation the bars, their labels, the two shares."""
    picture = (ROOT / ".github/idea.svg").read_text()
    bars = re.findall(r'class="(?:right|wrong)" y="\S+" width="([\d.]+)" height="([\d.]+)"/>.*>(\S+)</text>', picture)
    shares = re.findall(r'class="share".*>(\d+)%<', picture)
    expected_bars, expected_shares = [], []
    for lengths in (torch.tensor([150, 350, 400, 1000]), torch.tensor([400, 1000, 150, 350]), torch.tensor([500] * 4)):
        expected_bars += [(0.18 * length, 9, f"{length}") for length in lengths]
        mask = torch.arange(1000) < lengths[:, None]
        for mode in ("seq-mean-token-mean", "group-token-mean", "balanced"):
            advantages = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]) * mask
            weights = 1 / (4 * length_divisors(mode, ["prompt"] * 4, advantages, mask))
            labels = [f"×{weight:.1f}" for weight in weights * lengths.sum()]
            expected_bars += zip(0.18 * lengths, 18_000 * weights, labels, strict=True)
            right = (weights * lengths)[:2].sum()
            expected_shares += [f"{100 * right:.0f}", f"{100 * (1 - right):.0f}"]
    assert [label for _, _, label in bars] == [label for _, _, label in expected_bars]
    sizes = [[float(size) for size in bar[:2]] for bar in bars]
    assert sizes == [pytest.approx([float(size) for size in bar[:2]], abs=0.06) for bar in expected_bars]
    assert shares == expected_shares


@pytest.mark.parametrize("page", TOPICS, ids=lambda page: page.stem)
def test_a_page_begins_with_its_title_and_a_command(page):
    assert re.match(r"# .+\n\n```bash\n", page.read_text())


@every_page
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file() and file.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@every_page
def test_files_exist(page):
    words = {word for command in commands(page) for word in command} | set(code_spans(page))
    inside = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]+|[\w.-]+\.(?:toml|lock|cff)")
    examples = named_files()
    for path in (word for word in words if inside.fullmatch(word)):
        assert path in examples or list(ROOT.glob(path.rstrip("/"))), path


def next_commands() -> list[list[str]]:
    """What the quickstart says that one could do next."""
    return [
        shlex.split(line) for line in re.findall(r"^  \w.*  (bash scripts/.*)$", QUICKSTART.read_text(), re.MULTILINE)
    ]


def test_the_quickstart_ends_with_commands_that_exist():
    found = next_commands()
    assert [words[1] for words in found] == ["scripts/train.sh", "scripts/sweep.sh"]
    assert all((ROOT / words[1]).is_file() for words in found)
    assert "balanced-agg inspect" in QUICKSTART.read_text()


@every_page
def test_commands_exist_and_take_these_arguments(page):
    ours = typer.main.get_command(app).commands
    for words in commands(page):
        line = shlex.join(words)
        match words:
            case ["balanced-agg", name, *arguments]:
                assert name in ours, line
                if arguments:
                    # UsageError for an unknown option; a command that reads its arguments itself has none.
                    ours[name].make_context(name, list(arguments))
            case ["bash", script, *_]:
                assert (ROOT / script).is_file(), line
            case [script, *_] if script.startswith("scripts/"):
                assert (ROOT / script).is_file(), line
            case ["sbatch", *arguments]:
                assert any((ROOT / argument).is_file() for argument in arguments), line
            case ["python", "-m", module, *_]:
                assert module_file(module), line
            case ["python", "-c", code]:
                assert prints(code), line
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), line
            case ["pip", "install", *arguments]:
                extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
                for extra in re.findall(r"\.\[(\w+)\]", line):
                    assert extra in extras, line
                assert arguments
            case ["pip", "uninstall", "balanced-agg"]:
                pass
            case [program, *_]:
                assert program in OTHER_PROGRAMS, line


def test_overrides_in_commands_compose(checkout):
    packs: dict[str, list[dict[str, str]]] = {}
    lines = [words for page in PAGES for words in commands(page)] + next_commands()
    for recipe, overrides in filter(None, map(with_overrides, lines)):
        by_key = {override.partition("=")[0]: override for override in overrides}
        # Composing takes a while: those that set different keys are composed together.
        pack = next((p for p in packs.setdefault(recipe, []) if all(p.get(k, v) == v for k, v in by_key.items())), None)
        if pack is None:
            packs[recipe].append(pack := {})
        pack |= by_key
    assert packs.keys() >= {"arithmetic", "qwen3_1.7b_dapo17k", "ppo_trainer"}
    for recipe, overrides in ((recipe, list(pack.values())) for recipe, found in packs.items() for pack in found):
        if recipe == "ppo_trainer":
            with initialize_config_dir(verl_config_dir(), version_base=None):
                compose(recipe, overrides)
        else:
            composed(checkout, recipe, overrides)


def verl_config_dir() -> str:
    return str(module_file("verl").parent / "trainer/config")


def module_file(name: str) -> Path | None:
    """Of a module or package, found without importing the packages around it, as verl's would take seconds."""
    package, *rest = name.split(".")
    if package == "balanced_agg" or not rest:
        found = importlib.util.find_spec(name)
        return found and Path(found.origin)
    file = Path(importlib.util.find_spec(package).origin).parent.joinpath(*rest).with_suffix(".py")
    return file if file.is_file() else None


def module_named(span: str) -> bool:
    package = ".".join(span.split(".")[:2])
    return package.startswith("balanced_agg.") and importlib.util.find_spec(package) is not None


def test_hydra_keys_and_choices_in_the_text_exist(checkout):
    configs = [composed(checkout, recipe, []) for recipe in ("arithmetic", "qwen3_1.7b_dapo17k")]
    missing = object()
    checked = 0
    for page in PAGES:
        for span in code_spans(page):
            # Names in packages that are called as their sections of the config.
            if module_named(span) or span == "transfer_queue.async_kv_batch_put":
                continue
            if (match := KEY.fullmatch(span)) and match[1].partition(".")[0] in configs[0]:
                parent, _, name = match[1].rpartition(".")
                parents = [OmegaConf.select(config, parent, default=missing) for config in configs]
                assert any(isinstance(found, DictConfig) and name in found for found in parents), f"{page.name}: {span}"
                checked += 1
            elif match := re.fullmatch(r"([a-z_]+)=([\w.]+)", span):
                group, choice = match.groups()
                if (checkout / "configs" / group).is_dir() and not PLACEHOLDER.fullmatch(choice):
                    assert (checkout / "configs" / group / f"{choice}.yaml").is_file(), f"{page.name}: {span}"
                    checked += 1
    assert checked > 10


def prints(code: str) -> str:
    with redirect_stdout(StringIO()) as output:
        exec(code, {})
    return output.getvalue()


@every_page
def test_our_variables_are_read_somewhere(page):
    named = set(re.findall(r"BALANCED_AGG_[A-Z_]+", page.read_text()))
    files = [file for folder in ("balanced_agg", "configs", "scripts") for file in (ROOT / folder).rglob("*.*")]
    code = "".join(file.read_text() for file in files if file.suffix in (".py", ".yaml", ".sh", ".sbatch"))
    assert {name for name in named if name not in code} == set()


@every_page
def test_python_blocks_run_and_print_what_the_page_says(page):
    found = blocks(page)
    for block, following in pairwise([*found, Block("", "")]):
        if block.language != "python" or FILE_COMMENT.match(block.text):
            continue
        printed = prints(block.text)
        if following.language == "text":
            assert printed == following.text


def test_every_example_file_is_tried_by_a_test():
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    assert {path for path in named_files() if path.endswith(".py") and f'named_files()["{path}"]' not in tests} == set()


def test_the_example_rule_is_a_mode_that_passes_the_launch_checks(tmp_path):
    file = tmp_path / "my_rules.py"
    file.write_text(named_files()["my_rules.py"])
    check_rule(rule_of(f"{file}:between:0.3"))
    mask = torch.arange(9) < torch.tensor([[2], [4], [3], [9]])
    advantages = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]) * mask
    # The means of the signs are 3 and 6, that of the group 4.5.
    assert length_divisors(f"{file}:between", "aaaa", advantages, mask).tolist() == [3.75, 3.75, 5.25, 5.25]
    assert length_divisors(f"{file}:between:0", "aaaa", advantages, mask).tolist() == [4.5] * 4


def test_the_example_recipe_for_a_model_of_yours_composes(checkout):
    config = composed(checkout, "my_model_arithmetic", [])
    OmegaConf.resolve(config)
    assert config.actor_rollout_ref.model.path == f"{checkout}/artifacts/models/my_model"


def test_the_example_data_set_is_prepared_as_the_page_says(checkout, tmp_path):
    import pyarrow.parquet as pq
    from balanced_agg.data.prepare import prepare

    page = ROOT / "docs/data.md"
    (rows,) = (block.text for block in blocks(page) if block.language == "json")
    (tmp_path / "my_sums.jsonl").write_text(rows)
    module = {}
    exec(named_files()["data/my_sums.py"], module)
    done = prepare(module["DATASET"], tmp_path, tmp_path / "my_sums.jsonl")
    assert done.manifest["rows"] == 2
    assert {reason: entry["rows"] for reason, entry in done.manifest["dropped"].items()} == {
        "repeats an earlier row": 1,
        "no answer": 1,
    }

    config = composed(checkout, "arithmetic", ["train_data=my_sums", f"run.data_dir={tmp_path}"])
    row = pq.read_table(config.data.train_files).to_pylist()[0]
    assert row["prompt"] == [{"role": "user", "content": "3+4="}]
