"""Make every mistake of tests/tools/misuse.py as a user would, in turn, and print what each one says and when.

    .venv/bin/python -m tests.tools.try_misuse
    .venv/bin/python -m tests.tools.try_misuse "groups of one response" "truncated weights"
    .venv/bin/python -m tests.tools.try_misuse --list

It ends in an error unless each ends in exactly one message that names what to change, before Ray is started.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from balanced_agg.commands.terminal import messages, print_table
from tests.end_to_end.attempts import Attempt, attempt
from tests.end_to_end.launch import DEADLINE
from tests.tools.misuse import CASES, Case, good_inputs

SHORT = 150  # characters of a message


def row(case: Case, made: Attempt) -> list[str]:
    said = made.messages[0] if made.messages else "(no message)"
    said = said if len(said) <= SHORT else f"{said[: SHORT - 1]}…"
    return [case.name, said, f"{made.seconds:.1f}", "no" if made.ray_started else "yes", made.wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="these cases only")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, metavar="SECONDS", help="for one case (default: %(default)s)"
    )
    parser.add_argument("--show", action="store_true", help="print the log of a case that is not as it should be")
    options = parser.parse_args()
    if options.list:
        print(*(case.name for case in CASES), sep="\n")
        return
    cases = [case for case in CASES if not options.names or case.name in options.names]
    if unknown := set(options.names) - {case.name for case in cases}:
        parser.error(f"there is no case {', '.join(sorted(unknown))}; --list prints them")
    made = []
    with tempfile.TemporaryDirectory() as temporary:
        good = Path(temporary, "good")
        good_inputs(good)
        for number, case in enumerate(cases, 1):
            folder = Path(temporary, str(number))
            folder.mkdir()
            made.append(attempt(case, good, folder, options.deadline))
            wrong = made[-1].wrong
            messages.print(f"[{number}/{len(cases)}] {case.name}: {wrong or 'as it should be'}")
            if wrong and options.show:
                messages.print(made[-1].log)
    rows = [row(case, one) for case, one in zip(cases, made, strict=True)]
    print_table(("what is wrong", "message", "seconds", "before Ray", "not as it should be"), rows, text_columns=2)
    failed = sum(bool(cells[-1]) for cells in rows)
    seconds = sorted(one.seconds for one in made)
    before = sum(not one.ray_started for one in made)
    print(f"{len(rows)} cases, {before} before Ray; the median message after {seconds[len(rows) // 2]:.1f} s, ", end="")
    print(f"the last after {seconds[-1]:.1f} s; {failed} not as they should be")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
