"""Rules that need definitions, footers of files and modules of functions, and read no row."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from featurestore.definitions import Definition, FeatureView, FileSource, OnDemandFeatureView
from featurestore.errors import FeatureStoreError
from featurestore.functions import FunctionLoader
from featurestore.leakage.findings import Finding, subject
from featurestore.leakage.imports import IMPORTERS, called, imported_by_call, with_imported
from featurestore.offline.files import SourceFile, list_files
from featurestore.offline.footer import read_footer

Found = Iterator[tuple[Definition, Finding]]

READS: Final = frozenset(
    {
        "ParquetFile",
        "connect",
        "open",
        "read_bytes",
        "read_csv",
        "read_database",
        "read_delta",
        "read_excel",
        "read_feather",
        "read_ipc",
        "read_json",
        "read_ndjson",
        "read_parquet",
        "read_sql",
        "read_table",
        "read_text",
        "scan_csv",
        "scan_parquet",
        "urlopen",
    }
)
"""Calls by the last part of their name that read something."""
CLOCKS: Final = frozenset({"now", "utcnow", "today", "time", "time_ns", "monotonic"})
CHANCE: Final = frozenset({"random", "randint", "default_rng", "rand", "choice", "shuffle"})
RUNS: Final = frozenset({"exec_module", "run_module", "run_path"})
"""Calls that run modules which are not followed."""
MAX_LINES: Final = 5


def definition_findings(
    views: Iterable[FeatureView],
    on_demand: Iterable[OnDemandFeatureView],
    *,
    functions: FunctionLoader,
    root: Path,
) -> Found:
    """Yield what definitions alone say, each with the object whose tags silence it."""
    sources: dict[str, FileSource] = {}
    for view in views:
        yield from _missing_ttl(view)
        sources |= {s.name: s for s in (view.source, *view.joins)}
    for source in sources.values():
        yield from _source_findings(source, root)
    for computed in on_demand:
        yield from _impure(computed, functions, root)


def _missing_ttl(view: FeatureView) -> Found:
    if view.aggregations or view.ttl is not None:
        return
    yield (
        view,
        Finding(
            rule="no-ttl",
            severity="info",
            object=subject(view),
            message="A newest value is taken however old it is.",
            evidence={},
            advice="give the view a ttl, unless its rows hold until the next one comes",
        ),
    )


def _source_findings(source: FileSource, root: Path) -> Found:
    try:
        files = list_files(source, root)
        schema = read_footer(source.name, files[0]).schema
    except FeatureStoreError:
        return  # plan says so
    if source.static:
        yield from _static(source, files, schema)
    else:
        yield from _naive(source, schema)


def _static(source: FileSource, files: tuple[SourceFile, ...], schema: pa.Schema) -> Found:
    times = [f.name for f in schema if pa.types.is_timestamp(f.type) or pa.types.is_date(f.type)]
    if not times and len(files) == 1:
        return
    what = f"has times ({', '.join(times[:3])})" if times else f"consists of {len(files):,} files"
    yield (
        source,
        Finding(
            rule="static-changes",
            severity="warning" if times else "info",
            object=subject(source),
            message=f"It is joined as it is today, for all times, but {what}: where rows change, a"
            " training set sees what came later.",
            evidence={"time_columns": times, "files": len(files)},
            advice="declare its timestamp_field and join it with ASOF LEFT JOIN, unless no row ever"
            " changes",
        ),
    )


def _naive(source: FileSource, schema: pa.Schema) -> Found:
    if source.timezone != "UTC":
        return
    names = (source.timestamp_field, source.created_timestamp_column)
    columns = [source.column_in_file(name) for name in names if name is not None]
    fields = [schema.field(c) for c in columns if schema.names.count(c) == 1]
    naive = [f.name for f in fields if pa.types.is_timestamp(f.type) and f.type.tz is None]
    if naive:
        yield (
            source,
            Finding(
                rule="naive-times",
                severity="info",
                object=subject(source),
                message=f"The times in {', '.join(naive)} have no zone and are taken for UTC. If"
                " they are local, they are off by hours, and a training set sees the future.",
                evidence={"columns": naive},
                advice="say where they are local with timezone=, or write them with a zone",
            ),
        )


def _impure(view: OnDemandFeatureView, functions: FunctionLoader, root: Path) -> Found:
    if view.reference is None:
        return
    try:
        file = functions.pin(view.reference.path).file
    except FeatureStoreError:
        return  # a lookup or a training set says so
    modules = with_imported(file, [*functions.roots, root])
    lines = {path: sorted(set(_suspects(tree))) for path, tree in modules.items()}
    own, imported = lines.pop(file, []), {str(p): found for p, found in lines.items() if found}
    if not own and not imported:
        return
    shown = [f"line {line}: {what}" for line, what in own]
    for path, found in imported.items():
        shown += [f"{Path(path).name}, line {line}: {what}" for line, what in found]
    yield (
        view,
        Finding(
            rule="impure-function",
            severity="warning",
            object=subject(view),
            message=f"The module of {view.reference.path} depends on more than the function's"
            f" input ({', '.join(shown[:MAX_LINES])}): what that holds now is no part of what was"
            " known then.",
            evidence={
                "file": str(file),
                "lines": [line for line, _ in own],
                "imported": {p: [line for line, _ in found] for p, found in imported.items()},
            },
            advice="make what it reads a source, so that it is joined as of each row's time",
        ),
    )


def _suspects(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield lines that read files, the clock or chance, or keep state from call to call.

    An import whose name is computed is among them: it cannot be followed.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {node.names[0]}"
        elif isinstance(node, ast.Call):
            name = called(node.func)
            is_unknown = name in IMPORTERS and imported_by_call(node) is None
            if is_unknown or name in READS | CLOCKS | CHANCE | RUNS:
                yield node.lineno, f"{name}()"
