"""How this package reaches into another one: a wrapper put in place as the wrapped module is first imported."""

from collections.abc import Callable

import wrapt

# What is wrapped are functions of verl that no interface promises; other versions are refused.
TESTED_VERL = ("0.9.1",)


def wrap_when_imported(module: str, name: str, wrapper: Callable) -> None:
    """Wrap ``module.name`` (``name`` may be ``Class.method``) before any other module can bind it.

    ``wrapper`` is called as ``wrapper(wrapped, instance, args, kwargs)``. A module that is never imported is never
    wrapped, and nothing is imported early.
    """
    wrapt.register_post_import_hook(lambda loaded: wrapt.wrap_function_wrapper(loaded, name, wrapper), module)
