"""Functions of scenarios for the oracle: run as scripts, without hashes and roots."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType

from featurestore.testing.oracle_on_demand import Functions


def functions_of(modules: Mapping[str, str]) -> Functions:
    """Return the functions of modules: "module:name" -> function.

    Args:
        modules: File -> its text.
    """
    found = {}
    with TemporaryDirectory() as folder:
        for file, text in modules.items():
            path = Path(folder) / Path(file).name
            path.write_text(text, encoding="utf-8")
            module = Path(file).with_suffix("").as_posix().replace("/", ".")
            for name, value in runpy.run_path(str(path)).items():
                if isinstance(value, FunctionType):
                    found[f"{module}:{name}"] = value
    return found
