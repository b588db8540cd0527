"""The rooms of the package: each imports from itself and from the rooms below it, never from one above."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the top down. `data` is a folder of the checkout and a sub-package of the wheel.
ROOMS = ("commands", "data", "plugin", "runs", "rewards", "arithmetic", "loss", "atomic_write")


def room_of(module: str) -> str:
    return module.removeprefix("balanced_agg.").partition(".")[0]


def imports(file: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {module for module in found if module.startswith("balanced_agg.")}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_below_it(room):
    folder = ROOT / ("data" if room == "data" else f"balanced_agg/{room}")
    files = list(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert files
    allowed = {"__version__", *ROOMS[ROOMS.index(room) :]}
    upward = {(file.name, module) for file in files for module in imports(file) if room_of(module) not in allowed}
    assert not upward


def test_every_folder_and_module_of_the_package_is_in_a_room():
    package = ROOT / "balanced_agg"
    inside = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")} - {
        "__init__",
        "__main__",
    }
    assert inside | {"data"} == set(ROOMS)


def test_no_data_module_writes_beside_itself():
    """In a wheel that place is site-packages: defaults are folders of the current directory."""
    assert not [file.name for file in (ROOT / "data").glob("*.py") if "__file__" in file.read_text()]
