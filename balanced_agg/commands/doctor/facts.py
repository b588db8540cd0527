"""What the doctor knows before it judges: the environment a run would have, and the answers of the probes."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from balanced_agg.commands import train
from balanced_agg.commands.recipes import root

# Seconds. Importing verl takes 5 to 10 on a slow machine, more beside a run; a cluster that is there answers in 5.
DEADLINES = {"verl": 120, "ray": 20, "wandb": 20}


@dataclass
class Facts:
    """Attributes:
    environment: the variables a run would have.
    chosen_by_train: whether `balanced-agg train` chooses VERL_PLATFORM=cpu, since the user has not set it.
    verl, ray, wandb: answers of the probes of that name, or {"error": why there is none}.
    """

    environment: Mapping[str, str]
    chosen_by_train: bool = False
    verl: dict[str, Any] = field(default_factory=dict)
    ray: dict[str, Any] = field(default_factory=dict)
    wandb: dict[str, Any] = field(default_factory=dict)

    @property
    def on_cpu(self) -> bool:
        return self.environment.get("VERL_PLATFORM", "").strip().lower() == "cpu"

    @property
    def recipe(self) -> dict[str, Any]:
        """What the recipe asks for; empty without one, or if that could not be told."""
        return self.verl.get("recipe", {}).get("asks", {})

    def refused(self, *checks: str) -> bool:
        """Whether one of these launch checks refuses the recipe; what it says is then said, and not by another line."""
        return any(refusal["check"] in checks for refusal in self.verl.get("recipe", {}).get("refusals", ()))


def gather(recipe: str | None = None, overrides: Sequence[str] = ()) -> Facts:
    """Ask all probes at once, in the environment and the folder that `balanced-agg train` would start the run in."""
    environment = train.environment(os.environ)
    chosen_by_train = environment.get("VERL_PLATFORM", "") != os.environ.get("VERL_PLATFORM", "")
    arguments = {"verl": [recipe, *overrides] if recipe else [], "ray": [], "wandb": []}
    with ThreadPoolExecutor() as pool:
        asked = {name: pool.submit(ask, name, values, environment, root()) for name, values in arguments.items()}
    facts = Facts(environment, chosen_by_train, **{name: answer.result() for name, answer in asked.items()})
    if facts.recipe.get("ray_address"):  # known only now
        facts.ray = ask("ray", [facts.recipe["ray_address"]], environment, root())
    return facts


def ask(
    probe: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> dict[str, Any]:
    """The answer of one probe, run in a process of its own; {"error": why} if it crashes or misses its deadline."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch, "answer.json")  # a file, because libraries print whatever they like
        command = [sys.executable, "-m", "balanced_agg.commands.doctor.probes", probe, str(answer), *arguments]
        deadline = DEADLINES[probe]
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, timeout=deadline, capture_output=True, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {deadline} s"}
        if answer.exists():
            return json.loads(answer.read_text())
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return {"error": f"the process ended with exit status {done.returncode}: {said[-1] if said else 'no output'}"}
