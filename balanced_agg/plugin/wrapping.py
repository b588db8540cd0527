"""How this package reaches into another one where that has no extension point: wrappers with a contract.

Each part of the plugin (loss, checks, guard, cpu) has one table of :class:`Wrapper` in its ``in_verl.py``. A wrapper
states the module, the name and the parameters that it relies on. They are compared with what is installed as the
wrapper is put in place, so any version that fits works, and one that does not is refused by whoever asked for us.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from types import EllipsisType, ModuleType

import wrapt

from balanced_agg.plugin.refusal import Refusal

# The versions of verl that the whole test suite has run with. Another one whose functions fit works, with a warning.
TESTED_VERL = ("0.9.1",)


def switched_on(variable: str, default: str = "0") -> bool:
    """Whether this environment variable switches a part of the plugin on: any value but 0, false, no, off or none."""
    return os.environ.get(variable, default).strip().lower() not in ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Wrapper:
    """One function of another package that is wrapped.

    Attributes:
        module: where it is defined; it is wrapped as this module is first imported, before another can bind the name.
        name: ``function`` or ``Class.method``.
        parameters: the names of its parameters in their order. A last ``...`` lets others follow, which are passed on.
        call: ``call(wrapped, instance, args, kwargs)``; its docstring says what the function does and what we change.
        needs: other names of the module that the wrapper relies on, as ``name`` is written.
    """

    module: str
    name: str
    parameters: tuple[str | EllipsisType, ...]
    call: Callable
    needs: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The first paragraph of the docstring of ``call``, as docs/plugin.md has it."""
        return (inspect.getdoc(self.call) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")

    def misfit(self, module: ModuleType | None = None) -> str | None:
        """What of the contract the installed module does not keep; None where it fits.

        `module` is the loaded module; it is imported where it is not given.
        """
        name = self.name
        try:
            module = module or importlib.import_module(self.module)
            for name in (*self.needs, self.name):
                function = attrgetter(name)(module)
        except (ImportError, AttributeError):
            return f"{self.module}.{name} is not there"
        found = list(inspect.signature(function).parameters)
        expected = [name for name in self.parameters if name is not ...]
        if expected == (found[: len(expected)] if ... in self.parameters else found):
            return None
        return f"{self.module}.{self.name} has the parameters ({', '.join(found)}), not ({', '.join(expected)})"


def misfits(wrappers: Iterable[Wrapper]) -> list[str]:
    """What of these contracts the installed packages do not keep, in words. Imports all the modules."""
    return [reason for wrapper in wrappers if (reason := wrapper.misfit())]


def put_in_place(wrappers: Iterable[Wrapper], asked_for: str | None = None) -> None:
    """Wrap each function as its module is first imported; a module that is never imported is never wrapped.

    Args:
        asked_for: the setting that switches this part on. With it, the import of a module that breaks its contract
            raises a Refusal. Without it such a function is left alone, and the part must refuse where it is used.
    """
    for wrapper in wrappers:
        wrapt.register_post_import_hook(partial(_wrap, wrapper, asked_for), wrapper.module)


def _wrap(wrapper: Wrapper, asked_for: str | None, module: ModuleType) -> None:
    if reason := wrapper.misfit(module):
        if asked_for:
            raise refusal(asked_for, [reason])
        return
    if not _is_wrapped(attrgetter(wrapper.name)(module), wrapper.call):
        wrapt.wrap_function_wrapper(module, wrapper.name, wrapper.call)


def _is_wrapped(function: Callable | None, call: Callable) -> bool:
    """Whether `call` wraps this function already: several parts share the wrapper of a launch."""
    while function is not None:
        if getattr(function, "_self_wrapper", None) is call:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def refusal(asked_for: str, reasons: list[str]) -> Refusal:
    """The one error where a part was asked for, by ``KEY=VALUE``, and does not fit."""
    key, _, value = asked_for.partition("=")
    what = f"={value}: balanced_agg does not fit verl {version('verl')}: {'; '.join(reasons)}"
    return Refusal(key, what, f"install verl=={TESTED_VERL[-1]}, or do not set {key} so")
