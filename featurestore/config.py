"""`feature_store.yaml` and the environment, as one checked model.

Precedence: environment variable, then file, then default. `online_store.path` is set by
`FEATURESTORE_ONLINE_STORE__PATH`; `project` by `FEATURESTORE_PROJECT`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from featurestore.certificates import TlsFiles
from featurestore.errors import ConfigError, close_names, did_you_mean, shown
from featurestore.settings import Settings
from featurestore.time import Clock, parse_clock

if TYPE_CHECKING:
    from yaml import Node

FILE_NAME = "feature_store.yaml"
ENV_PREFIX = "FEATURESTORE_"
MAX_FILE_BYTES = 1 << 20
_NOT_CONFIGURATION = {"FEATURESTORE_TEST_REDIS"}


@dataclass(frozen=True, kw_only=True)
class RepoConfig:
    """Settings together with where they came from.

    Attributes:
        root: The repository: folder of `feature_store.yaml`, where relative paths start.
        settings: The settings.
        clock: The clock that they name.
        origins: Dotted key -> "environment", "file" or "code"; keys not in it have defaults.
    """

    root: Path
    settings: Settings
    clock: Clock
    origins: Mapping[str, str] = field(default_factory=dict)

    def path(self, relative: Path) -> Path:
        """Return a path of the settings as an absolute one."""
        return (self.root / relative).absolute()

    def online_store_arguments(self) -> dict[str, Any]:
        """Return `type` and the arguments of `open_store`, JSON-ready, for any folder."""
        chosen = self.settings.online_store
        paths = {name: str(self.path(value)) for name, value in chosen if isinstance(value, Path)}
        return chosen.model_dump(mode="json") | paths

    def tls_files(self) -> TlsFiles | None:
        """Return the files that the server encrypts with; None if it does not."""
        chosen = self.settings.server.tls
        if chosen is None:
            return None
        return TlsFiles(
            certificate=self.path(chosen.certificate),
            key=self.path(chosen.key or chosen.certificate),
            client_ca=self.path(chosen.client_ca) if chosen.client_ca else None,
        )


def load_config(repo_path: Path, *, environment: Mapping[str, str] | None = None) -> RepoConfig:
    """Read `feature_store.yaml` below `repo_path`, and the environment.

    Raises:
        ConfigError: No such file, not YAML, an unknown key or an unusable value; it names the key
            and whether file or environment is to blame.
    """
    file = repo_path if repo_path.suffix in (".yaml", ".yml") else repo_path / FILE_NAME
    from_file = _read_yaml(file)
    return make_config(from_file, root=file.parent, where=str(file), environment=environment)


def make_config(
    values: Mapping[str, Any],
    *,
    root: Path,
    where: str = "code",
    environment: Mapping[str, str] | None = None,
) -> RepoConfig:
    """Return the configuration that `values` and the environment make together."""
    merged: dict[str, Any] = {key: _expanded(key, value) for key, value in values.items()}
    origins = dict.fromkeys(_leaves(merged), where)
    found = os.environ if environment is None else environment
    for path, text, variable in _from_environment(found):
        _set(merged, path, text, variable)
        head = path.partition(".")[0]
        origins |= dict.fromkeys(
            _leaves({head: merged[head]}) if path == head else [path], f"${variable}"
        )
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _config_error(error, where, origins) from None
    return RepoConfig(
        root=root.absolute(),
        settings=settings,
        clock=parse_clock(settings.clock),
        origins=origins,
    )


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    text = _read_text(file)
    try:
        twice = _key_twice(yaml.compose(text, Loader=yaml.SafeLoader))
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{file}{at} is not YAML: {reason}.") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a date such as 2024-02-30
        raise ConfigError(f"{file} cannot be read as YAML: {error}.") from None
    if twice is not None:
        raise ConfigError(
            f"{file}, line {twice.start_mark.line + 1}: {shown(str(twice.value))} is there twice.",
            hint="keep one: YAML would take the last of them without a word",
        )
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise ConfigError(
            f"{file} holds no settings.", hint="it needs at least: project: my_project"
        )
    return values


def _key_twice(document: "Node | None") -> "Node | None":
    """Return a key that a mapping of the document has before, if there is one."""
    import yaml

    found = [] if document is None else [document]
    looked_at = set()
    while found:
        node = found.pop()
        if id(node) in looked_at:  # an alias
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            found += node.value
        elif isinstance(node, yaml.MappingNode):
            names = set()
            key: Node
            for key, value in node.value:
                name = (key.tag, str(key.value))
                if name in names:
                    return key
                names.add(name)
                found.append(value)
    return None


def _read_text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES:,} bytes.")
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"There is no {file.name} in {file.parent.absolute()}.",
            hint="go to a repository, name one with --repo, or make one with featurestore init",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{shown(str(file))} cannot be read: {reason}.") from None


_SHORT_FORMS = {
    "registry": "path",
    "offline_store": "type",
    "functions": "roots",
    "datasets": "path",
    "server": "address",
}


def _expanded(key: str, value: object) -> object:
    """Return the long form of a setting written in one line."""
    if not isinstance(value, str):
        return dict(value) if isinstance(value, dict) else _as_text(key, value)
    if key == "online_store":
        is_address = "://" in value
        return {"type": "redis", "url": value} if is_address else {"type": value}
    return {_SHORT_FORMS[key]: value} if key in _SHORT_FORMS else value


def _as_text(key: str, value: object) -> object:
    """YAML reads an instant as a datetime; the clock takes text."""
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if key == "clock" and isoformat else value


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for variable in sorted(environment):
        if not variable.startswith(ENV_PREFIX) or variable in _NOT_CONFIGURATION:
            continue
        path = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if path.split(".")[0] in Settings.model_fields:
            yield path, environment[variable], variable


def _set(values: dict[str, Any], path: str, text: str, variable: str) -> None:
    head, _, rest = path.partition(".")
    if not rest:
        values[head] = _expanded(head, tuple(text.split(",")) if head == "definitions" else text)
        return
    inner, model = _inner(values, head, variable), _part(Settings, head)
    while model and "." in rest and _part(model, rest.partition(".")[0]):
        head, _, rest = rest.partition(".")
        inner, model = _inner(inner, head, variable), _part(model, head)
    inner[rest] = text


def _inner(values: dict[str, Any], key: str, variable: str) -> dict[str, Any]:
    """Return the parts of a setting, which the environment may be the first to name."""
    inner = values.get(key)
    if inner is not None and not isinstance(inner, dict):
        raise ConfigError(f"${variable}: the setting {key!r} has no parts.")
    values[key] = dict(inner or {})  # a copy: the one that was there is the caller's
    found: dict[str, Any] = values[key]
    return found


def _part(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of a setting that has parts itself."""
    known = model.model_fields.get(key)
    kinds = () if known is None else (known.annotation, *get_args(known.annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def _leaves(values: Mapping[str, Any], *, depth: int = 3) -> Iterator[str]:
    """Yield the dotted keys of settings, of `depth` parts at most: YAML may hold itself."""
    for key, value in values.items():
        if isinstance(value, dict) and depth > 1:
            yield from (f"{key}.{inner}" for inner in _leaves(value, depth=depth - 1))
        else:
            yield key


def _config_error(error: ValidationError, where: str, origins: Mapping[str, str]) -> ConfigError:
    details = error.errors(include_url=False, include_input=False)
    # A misspelt setting explains the one that is missing.
    detail = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    parts = [part for part in detail["loc"] if part != "[key]"]
    path = ".".join(str(part) for part in parts)
    origin = next((origins[p] for p in (path, *map(str, parts[:1])) if p in origins), where)
    below = next((p for p in origins if p.startswith(f"{path}.")), None)
    if below and "." in path:
        return ConfigError(
            f"{origins[below]}: there is no setting {shown(below)}.",
            hint=f"{path} is one value, and has no parts",
        )
    if detail["type"] == "extra_forbidden":
        known = _known_keys(detail["loc"])
        return ConfigError(
            f"{origin}: there is no setting {shown(path)}.",
            hint=did_you_mean(close_names(str(detail["loc"][-1]), known))
            or f"known settings here are {', '.join(known)}",
        )
    if detail["type"] == "missing":
        hint = "add it: project: my_project" if path == "project" else None
        return ConfigError(f"{origin}: the setting {path!r} is missing.", hint=hint)
    return ConfigError(f"{origin}: {path}: {detail['msg'].removeprefix('Value error, ')}.")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        model = _part(model, str(part)) or model
    return sorted(model.model_fields)
