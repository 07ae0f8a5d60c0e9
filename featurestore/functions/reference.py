"""References to functions: `package.module:name`. Pure; nothing is imported or read."""

import inspect
import keyword
import re
import sys
from collections.abc import Callable
from pathlib import PurePath
from types import FunctionType
from typing import Any, Final

from featurestore.errors import shown

MAX_REFERENCE: Final = 255
_REFERENCE: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
)
_SCRIPT: Final = "__main__"


def check_reference(text: str) -> str:
    """Return a reference that names a function of a module that is no part of Python.

    Raises:
        ValueError: It does not have the form `package.module:name`, or its module would hide one
            of Python's own.
    """
    if len(text) > MAX_REFERENCE or not _REFERENCE.fullmatch(text):
        raise ValueError(
            f"{shown(text)} is no reference to a function; write 'package.module:name'"
        )
    module, _, name = text.partition(":")
    for part in (*module.split("."), name):
        if keyword.iskeyword(part):
            raise ValueError(f"{text!r} is no reference to a function: {part!r} is a keyword")
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == _SCRIPT:
        raise ValueError(f"the module of {text!r} has the name of one of Python's own; rename it")
    return text


def reference_to(function: Callable[..., Any]) -> str:
    """Return the reference to a function that a definition was given itself.

    Only its name is kept, never its code.

    Raises:
        ValueError: It is no function at the top of an importable module.
    """
    if not isinstance(function, FunctionType):
        raise ValueError(  # noqa: TRY004 - pydantic reports this as a validation error
            f"{shown(repr(function))} is not a function; pass one that a module defines with def"
        )
    name, module = function.__qualname__, function.__module__
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not at the top of its module, where it could be found again")
    if module == _SCRIPT:
        raise ValueError(
            f"{name!r} is defined in the script that runs; put it into a module of its own"
        )
    file = PurePath(inspect.unwrap(function).__code__.co_filename)
    if file.with_suffix("").parts[-module.count(".") - 1 :] != tuple(module.split(".")):
        raise ValueError(
            f"{name!r} is defined in {file.name}, which runs as the module {module!r}; put it into"
            " a module of its own, or write 'package.module:name'"
        )
    return check_reference(f"{module}:{name}")
