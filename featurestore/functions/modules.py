"""Modules of functions: read once below the configured roots, hashed, and run from those bytes.

What may run is decided by two things that somebody else's registry cannot forge: this machine's
configuration names the folders, and the registry's hash has to be that of the file which is there.
A module runs under a private name, so that it hides no other, and by itself: it may import what is
installed, while its neighbours below the root, which no hash covers, are not put on the path.
"""

import hashlib
import inspect
import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, module_from_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from featurestore.errors import FunctionChangedError, FunctionLoadError, close_names, did_you_mean
from featurestore.functions.failures import reason_of
from featurestore.functions.reference import check_reference
from featurestore.functions.takes import Takes, what_it_takes

MAX_MODULE_BYTES: Final = 1 << 20
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFunction:
    """A function that is ready to be called.

    Attributes:
        reference: "package.module:name".
        sha256: Of its module's file, 64 hexadecimal digits.
        file: That file.
        takes: What it is called with.
        call: The function.
    """

    reference: str
    sha256: str
    file: Path
    takes: Takes
    call: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Module:
    """A module's file as it was read, once."""

    file: Path
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class FunctionLoader:
    """Loads functions below some folders. Safe to use from several threads.

    Args:
        roots: Where import paths start; the first that has a module is taken. Without roots nothing
            is loaded.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self.roots = tuple(roots)
        self._loaded: dict[tuple[str, str], LoadedFunction] = {}
        self._modules: dict[tuple[Path, str], ModuleType] = {}
        self._lock = threading.RLock()  # a module may load functions while it runs

    def pin(self, reference: str) -> LoadedFunction:
        """Return a function as it is now, whose hash a registry may keep from now on.

        Raises:
            FunctionLoadError: There is no root, no such module or function, or the module fails.
        """
        with self._lock:
            return self._load(reference, self._read(reference))

    def load(self, reference: str, sha256: str) -> LoadedFunction:
        """Return a function of the module that has this hash; it is read and run only once.

        Raises:
            FunctionChangedError: The module's file has another hash; nothing of it was run.
            FunctionLoadError: As for `pin`.
        """
        with self._lock:
            if (loaded := self._loaded.get((reference, sha256))) is not None:
                return loaded
            module = self._read(reference)
            if module.sha256 != sha256:
                raise FunctionChangedError(
                    function=reference,
                    file=str(module.file),
                    expected=sha256,
                    found=module.sha256,
                )
            loaded = self._loaded[reference, sha256] = self._load(reference, module)
            return loaded

    def _read(self, reference: str) -> _Module:
        try:
            check_reference(reference)  # a registry may say anything
        except ValueError as error:
            raise FunctionLoadError(f"{error}.", function=reference) from None
        if not self.roots:
            raise FunctionLoadError(
                f"Function {reference!r} cannot be loaded: this configuration names no folder of"
                " functions.",
                function=reference,
                hint="name it in feature_store.yaml, as in functions: {roots: [functions]}",
            )
        relative = Path(*reference.partition(":")[0].split(".")).with_suffix(".py")
        for root in self.roots:
            if os.path.lexists(root / relative):
                return _read_module(reference, root, relative)
        tried = " and ".join(str(root / relative) for root in self.roots)
        raise FunctionLoadError(
            f"Function {reference!r} cannot be loaded: there is no {tried}.",
            function=reference,
            hint="import paths start at functions.roots in feature_store.yaml",
        )

    def _load(self, reference: str, module: _Module) -> LoadedFunction:
        name = reference.partition(":")[2]
        key = (module.file, module.sha256)
        if key not in self._modules:
            self._modules[key] = _run(reference, module)
        function = _function(reference, name, self._modules[key], module.file)
        try:
            takes = what_it_takes(function)
        except ValueError as error:
            raise FunctionLoadError(
                f"Function {reference!r} {error}.", function=reference, file=str(module.file)
            ) from None
        return LoadedFunction(
            reference=reference,
            sha256=module.sha256,
            file=module.file,
            takes=takes,
            call=function,
        )


def _read_module(reference: str, root: Path, relative: Path) -> _Module:
    """Return a module's file and all its bytes.

    Raises:
        FunctionLoadError: It lies outside the root, is no plain file, too large or unreadable.
    """
    named = root / relative
    try:
        file = named.resolve(strict=True)
        if not file.is_relative_to(root.resolve(strict=True)):
            raise FunctionLoadError(
                f"Function {reference!r} cannot be loaded: {named} leads out of the folder {root}.",
                function=reference,
                file=str(named),
                hint="put the module itself there",
            )
        content = _read_file(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        reason = getattr(error, "strerror", None) or error
        raise FunctionLoadError(
            f"Function {reference!r} cannot be loaded: {named} cannot be read: {reason}.",
            function=reference,
            file=str(named),
        ) from None
    if content is None:
        raise FunctionLoadError(
            f"Function {reference!r} cannot be loaded: {named} is no plain file of at most"
            f" {MAX_MODULE_BYTES:,} bytes.",
            function=reference,
            file=str(named),
        )
    return _Module(file, content)


def _read_file(file: Path) -> bytes | None:
    """Return what is in a file; None if it is a pipe, a folder or too large to be a module."""
    with os.fdopen(os.open(file, _OPEN), "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            return None
        content = opened.read(MAX_MODULE_BYTES + 1)
    return None if len(content) > MAX_MODULE_BYTES else content


class _BytesLoader(InspectLoader):
    """Lets Python's own machinery run a module from the bytes that were hashed."""

    def __init__(self, content: bytes, file: Path) -> None:
        self._content = content
        self._file = file

    def get_source(self, _name: str) -> str:
        """Return the text."""
        return decode_source(self._content)

    def get_code(self, fullname: str) -> Any:
        """Return the compiled text; tracebacks name the file."""
        return self.source_to_code(self.get_source(fullname), str(self._file))


def _run(reference: str, module: _Module) -> ModuleType:
    """Return the module that its bytes make.

    Raises:
        FunctionLoadError: It cannot be compiled, or fails while it runs.
    """
    path = reference.partition(":")[0]
    name = f"_featurestore_function_{module.sha256[:16]}_{path.replace('.', '_')}"
    loader = _BytesLoader(module.content, module.file)
    spec = ModuleSpec(name, loader, origin=str(module.file))
    spec.has_location = True
    made = module_from_spec(spec)
    sys.modules[name] = made  # dataclasses and the like look their module up by name
    try:
        loader.exec_module(made)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise FunctionLoadError(
            f"Function {reference!r} cannot be loaded: {module.file} fails:"
            f" {reason_of(error, module.file)}.",
            function=reference,
            file=str(module.file),
            hint="a module of functions may import what is installed, and none of its neighbours",
        ) from error
    return made


def _function(reference: str, name: str, module: ModuleType, file: Path) -> FunctionType:
    found = getattr(module, name, None)
    if isinstance(found, FunctionType) and found.__module__ == module.__name__:
        return found
    own = [
        n
        for n, v in inspect.getmembers(module, inspect.isfunction)
        if v.__module__ == module.__name__
    ]
    what = "no function" if found is None else "no function of its own"
    raise FunctionLoadError(
        f"Function {reference!r} cannot be loaded: {file} defines {what} {name!r}.",
        function=reference,
        file=str(file),
        hint=did_you_mean(close_names(name, own)),
    )
