"""Kill one run again and again, each time another process at another point of a step; go on with the same command.

    .venv/bin/python -m tests.tools.kill_and_resume FOLDER
    .venv/bin/python -m tests.tools.kill_and_resume FOLDER --only "weight sync:worker"    # one kill; or: control, end

FOLDER/killed is the run, FOLDER/control the same one without kills. What has been done in FOLDER is not done again. It
ends in a table, and with an error if a step is not logged exactly once or was ever given other prompts than in control.
"""

import argparse
from pathlib import Path

from balanced_agg.commands.terminal import messages, print_table
from tests.end_to_end.kills import kill, kills_so_far, logged_steps, prompts, start

STEPS = 40  # without the Ray head a run goes on for about a minute
KILLS = [
    ("before logging", "driver"),
    ("checkpoint", "worker"),
    ("weight sync", "vLLM engine"),
    ("end of checkpoint", "driver"),
    ("rollout", "agent loop"),
    ("weight sync", "vLLM server"),
    ("rollout", "vLLM engine"),
    ("rollout", "command"),
    ("rollout", "driver"),
    ("update", "worker"),
    ("update", "raylet"),
    ("checkpoint", "command"),
    ("rollout", "Ray head"),
    ("update", "vLLM server"),
    ("weight sync", "worker"),
]
ORDER = ["control", *KILLS, "end"]


def do(folder: Path, what: tuple[str, str] | str) -> None:
    messages.print(what if isinstance(what, str) else f"{what[1]} killed at {what[0]}")
    if what == "control":
        assert start(folder / "control", STEPS).returncode == 0
    elif what == "end":
        assert start(folder / "killed", STEPS).returncode == 0
    else:
        kill(folder / "killed", STEPS, *what)


def done(folder: Path, what: tuple[str, str] | str) -> bool:
    if isinstance(what, tuple):
        return what in [(killed.point, killed.victim) for killed in kills_so_far(folder / "killed")]
    log = folder / ("control" if what == "control" else "killed") / "metrics.jsonl"
    return log.exists() and STEPS in logged_steps(log.parent)


def report(folder: Path) -> None:
    kills = kills_so_far(folder / "killed")
    header = ["point", "victim", "step", "the command ended", "exit code", "left over", "resumes from", "message"]
    rows = [
        [
            killed.point,
            killed.victim,
            str(killed.step),
            f"after {killed.seconds} s",
            str(killed.exit_code),
            str(killed.leftover),
            f"{killed.resumes_from}" + (f", {', '.join(killed.incomplete)} incomplete" if killed.incomplete else ""),
            killed.message[:100],
        ]
        for killed in kills
    ]
    print_table(header, rows, text_columns=2)


def check(folder: Path) -> list[str]:
    """What is wrong with the run at its end."""
    wrong = []
    logged = logged_steps(folder / "killed")
    if logged != list(range(1, STEPS + 1)):
        wrong.append(f"steps in the log: {logged}")
    expected = prompts(folder / "control")
    for step, begun in prompts(folder / "killed").items():
        if any(given != expected[step][0] for given in begun):
            wrong.append(f"step {step} was given other prompts than in the run without kills")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    names = {":".join(pair): pair for pair in KILLS} | {name: name for name in ("control", "end")}
    parser.add_argument("--only", choices=names, metavar="POINT:VICTIM")
    options = parser.parse_args()
    folder = options.folder.resolve()
    for what in [names[options.only]] if options.only else ORDER:
        if not done(folder, what):
            do(folder, what)
    report(folder)
    if done(folder, "control") and done(folder, "end"):
        if wrong := check(folder):
            raise SystemExit("\n".join(wrong))
        kills = len(kills_so_far(folder / "killed"))
        print(f"{kills} kills: all {STEPS} steps logged once, each with the prompts of the run without kills")


if __name__ == "__main__":
    main()
