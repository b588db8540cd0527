"""How tests reach into verl's processes: as the plugin does, without a contract."""

from collections.abc import Callable

from balanced_agg.plugin.wrapping import Wrapper, put_in_place


def wrap_when_imported(module: str, name: str, call: Callable) -> None:
    put_in_place([Wrapper(module, name, (...,), call)])
