"""Where the checkout is: configs/, recipes/ and data/ are not in the installed package."""

from pathlib import Path


def find_checkout(start: Path | None = None) -> Path:
    """The checkout around the current directory (or `start`), else the one this package is imported from.

    FileNotFoundError if there is neither.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "data" / "prepare.py").is_file() and (folder / "configs" / "base.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"needs a checkout of balanced_agg: configs/, recipes/ and data/ are not in the installed package, and {here} "
        "is not inside a checkout. `git clone` the repository that this package was built from, then run the command "
        "inside of it"
    )
