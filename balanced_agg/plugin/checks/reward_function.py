"""The reward function: that it is there, and can be called as verl calls it. Its file is parsed, not run."""

import ast
import importlib.util
import inspect
import symtable
import tokenize
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from balanced_agg.plugin.refusal import Refusal

FUNCTION = "reward.custom_reward_function"
# What verl's reward managers pass, by name; the last two where a reward model is enabled.
ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")
OF_A_REWARD_MODEL = ("reward_router_address", "reward_model_tokenizer")
SIGNATURE = "data_source, solution_str, ground_truth, extra_info=None"
CALL_IT_SO = ("naive", "dapo", "gdpo", "rate_limited", "remote", "pkg://balanced_agg.rewards.reward_manager")
LITERALS = ast.Constant | ast.List | ast.Dict | ast.Tuple | ast.Set | ast.JoinedStr
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def check_reward_function(config: DictConfig) -> None:
    """Check that the file of the reward function exists and defines it, and that it takes what it is called with.

    Only what its own file tells is judged: not a function that is imported, decorated or made by a call.
    """
    path, name = config.reward.custom_reward_function.path, config.reward.custom_reward_function.name
    if path is None or ("://" in path and not path.startswith(("pkg://", "file://"))):
        return
    file = source_of(path)
    if file is None or not file.is_file():
        raise Refusal(f"{FUNCTION}.path", f"={path} does not exist", "set it to a file, or to pkg://MODULE")
    if file.suffix != ".py":
        return
    try:
        with tokenize.open(file) as text:
            source = text.read()
        tree, names = ast.parse(source), symtable.symtable(source, str(file), "exec")
    except (SyntaxError, ValueError) as error:
        raise Refusal(f"{FUNCTION}.path", f": {file} is no Python ({error})", "correct it") from None
    defined = {symbol.get_name() for symbol in names.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    if name in defined:
        check_call(config, definition(tree, name), file)
    elif not any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)):
        functions = [node.name for node in tree.body if isinstance(node, FUNCTIONS)]
        remedy = f"set it to one of its functions ({', '.join(functions)})"
        raise Refusal(f"{FUNCTION}.name", f"={name} is not defined in {file}", remedy)


def source_of(path: str) -> Path | None:
    """The file that verl would load, which takes ``pkg://MODULE``, ``file://PATH`` and plain paths."""
    if not path.startswith("pkg://"):
        return Path(path.removeprefix("file://"))
    try:
        found = importlib.util.find_spec(path.removeprefix("pkg://").replace("/", "."))
    except ImportError:
        return None
    return Path(found.origin) if found and found.origin else None


def definition(tree: ast.Module, name: str, aliases: tuple[str, ...] = ()) -> ast.AST | None:
    """What a module binds the name to at last: a function, class or value; None where that depends on its running."""
    found: ast.AST | None = None
    for node in tree.body:
        if isinstance(node, FUNCTIONS | ast.ClassDef):
            bound, value = [node.name], node
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            bound, value = [target.id for target in node.targets], node.value
        else:  # an import, an assignment to several names, or a statement with others in it
            bound, value = list(_bound_in(node)), None
        if name in bound:
            found = value
    if isinstance(found, ast.Name):
        return None if found.id in (name, *aliases) else definition(tree, found.id, (name, *aliases))
    return found


def _bound_in(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, FUNCTIONS | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
            yield inner.id
        elif isinstance(inner, ast.alias):
            yield inner.asname or inner.name.partition(".")[0]


def check_call(config: DictConfig, defined: ast.AST | None, file: Path) -> None:
    """Check what the name stands for, and that it can be called as one of verl's reward managers calls it."""
    function, manager = config.reward.custom_reward_function, config.reward.reward_manager
    what = f"={function.name} in {file}"
    if isinstance(defined, LITERALS | ast.ClassDef):
        is_what = "a class" if isinstance(defined, ast.ClassDef) else ast.unparse(defined)
        raise Refusal(f"{FUNCTION}.name", f"{what} is {is_what}", "set it to a function")
    options = function.get("reward_kwargs", {})
    if not isinstance(options, DictConfig | dict):
        raise Refusal(f"{FUNCTION}.reward_kwargs", f"={options!r}", "set it to {}, or to options by name")
    called_so = manager.name if manager.source == "register" else (manager.get("module") or {}).get("path")
    if called_so not in CALL_IT_SO:  # by a manager of the user's, as that likes
        return
    passed = ARGUMENTS + (OF_A_REWARD_MODEL if config.reward.reward_model.enable else ())
    for name in options:
        if name in passed:
            what = ": verl passes an argument of this name, which the option would replace"
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", what, "give the option another name")
    if not isinstance(defined, FUNCTIONS | ast.Lambda) or getattr(defined, "decorator_list", None):
        return
    if called_so == "remote" and isinstance(defined, ast.AsyncFunctionDef):
        what = f"=remote takes no async function, such as {function.name} in {file}"
        raise Refusal("reward.reward_manager.name", what, "set it to naive or dapo")
    signature = signature_of(defined.args)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for name in options:
        if name not in signature.parameters and not takes_any:
            what = f": {function.name} in {file} takes no such option"
            raise Refusal(f"{FUNCTION}.reward_kwargs.{name}", what, "remove it, or let the function take it")
    try:
        signature.bind(**dict.fromkeys((*passed, *options)))
    except TypeError as error:
        required = [
            f"+{FUNCTION}.reward_kwargs.{parameter.name}=VALUE"
            for parameter in signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and parameter.default is parameter.empty
            and parameter.name not in (*passed, *options)
        ]
        all_there = takes_any or set(passed) <= signature.parameters.keys()
        more = ", reward_router_address=None, reward_model_tokenizer=None" if len(passed) > len(ARGUMENTS) else ""
        remedy = f"define it as {function.name}({SIGNATURE}{more})"
        if required and all_there:
            remedy = f"give the parameter a default, or set {' '.join(required)}"
        called = f"{what} cannot be called with {', '.join((*passed, *options))} by name ({error})"
        raise Refusal(f"{FUNCTION}.name", called, remedy) from None


def signature_of(arguments: ast.arguments) -> inspect.Signature:
    """The signature of a function that was parsed. Its defaults and annotations, which are code, are left out."""
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    none = ast.Constant(None)
    arguments.defaults = [none for _ in arguments.defaults]
    arguments.kw_defaults = [default and none for default in arguments.kw_defaults]
    stub = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, none)))
    return inspect.signature(eval(compile(stub, "<signature>", "eval")))
