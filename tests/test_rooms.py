"""The rooms of the package: each imports from itself and from the rooms below it, never from one above."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Room -> the rooms that it imports from. All of them are further down, so that there is no circle. `data` is a folder
# of the checkout and a sub-package of the wheel.
ARROWS = {
    "commands": {"data", "plugin", "runs", "arithmetic", "loss", "atomic_write", "untrusted"},
    "data": {"rewards", "arithmetic", "atomic_write", "untrusted"},
    "plugin": {"runs", "rewards", "loss", "atomic_write", "untrusted"},
    "runs": {"loss", "untrusted"},
    "rewards": {"arithmetic", "untrusted"},
    "arithmetic": {"atomic_write"},
    "loss": set(),
    "atomic_write": set(),
    "untrusted": set(),
}
ROOMS = list(ARROWS)


def files_of(room: str) -> list[Path]:
    folder = ROOT / ("data" if room == "data" else f"balanced_agg/{room}")
    return list(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(file: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {module for module in found if module.startswith("balanced_agg.")}


def test_the_arrows_between_the_rooms_are_these_and_point_down():
    rooms = {module.split(".")[1] for room in ROOMS for file in files_of(room) for module in imports(file)}
    assert rooms <= {"__version__", *ROOMS}
    found = {
        room: {module.split(".")[1] for file in files_of(room) for module in imports(file)} & {*ROOMS} - {room}
        for room in ROOMS
    }
    assert found == ARROWS
    upward = [(room, to) for room in ROOMS for to in found[room] if ROOMS.index(to) < ROOMS.index(room)]
    assert not upward
    print(f"\n{len(ROOMS)} rooms, {sum(map(len, found.values()))} arrows, none of them upward")


def test_every_folder_and_module_of_the_package_is_in_a_room():
    package = ROOT / "balanced_agg"
    inside = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")} - {
        "__init__",
        "__main__",
    }
    assert inside | {"data"} == set(ROOMS)


def test_no_package_of_the_wheel_is_forgotten():
    """They are listed by hand, because three of them lie at the top of the checkout."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(file.relative_to(ROOT).parent.parts) for file in (ROOT / "balanced_agg").rglob("*.py")}
    assert set(listed) == found | {f"balanced_agg.{name}" for name in ("configs", "data", "recipes")}


def test_no_data_module_writes_beside_itself():
    """In a wheel that place is site-packages: defaults are folders of the current directory."""
    assert not [file.name for file in (ROOT / "data").glob("*.py") if "__file__" in file.read_text()]
