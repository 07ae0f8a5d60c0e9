"""``python -m benchmarks``: run and list workloads, compare results, write a request to a file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import compare, data, result, sides, targets, workloads
from benchmarks.errors import BenchmarkError
from benchmarks.harness import Run, say, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.result import Result

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 if a benchmark failed or a comparison is bad; 2 if the command line is wrong.
    """
    asked = _parser().parse_args(arguments)
    # What is installed has its bytecode; without, each process would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        return int(asked.command(asked))
    except BenchmarkError as error:
        say(f"error: {error}")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run one workload, or all")
    which = run.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="a workload; see list")
    which.add_argument("--all", action="store_true", help="every workload")
    run.add_argument("--size", choices=data.SIZES, default="full")
    run.add_argument("--peer", choices=sides.PEERS, help="measure a peer in turns with us")
    run.add_argument("--repeat", type=_positive, default=3, help="turns (default: 3)")
    run.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    run.set_defaults(command=_run)
    listing = commands.add_parser("list", help="name the workloads")
    listing.set_defaults(command=_list)
    judge = commands.add_parser("compare", help="judge results B against results A")
    judge.add_argument("before", metavar="A", type=Path)
    judge.add_argument("after", metavar="B", type=Path)
    judge.add_argument("--tolerance", type=float, default=compare.DEFAULT_TOLERANCE)
    judge.set_defaults(command=_compare)
    dump = commands.add_parser("dump-request", help="one lookup as a gRPC frame, on stdout")
    dump.add_argument("--batch", type=_positive, default=100, help="entities (default: 100)")
    dump.set_defaults(command=_dump_request)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _run(asked: argparse.Namespace) -> int:
    names = list(workloads.WORKLOADS) if asked.all else [workloads.named(asked.name).name]
    peer = sides.peer_named(asked.peer) if asked.peer else None
    for name in names:
        with scratch() as folder:
            versions = peer.versions if peer else {}
            run = Run(data.SIZES[asked.size], asked.repeat, folder, peer, versions)
            for found in workloads.named(name).run(run):
                print(result.to_line(found) if asked.json else _readable(found), flush=True)
    return DONE


def _readable(found: Result) -> str:
    parts = [f"{found.name:<24} {found.figure:>10g} {found.unit}"]
    if found.peer:
        parts.append(f"{found.peer.ratio:g}x better than {found.peer.name} ({found.peer.figure:g})")
    if found.limit:
        parts.append(f"{found.limit.ratio:g}x the limit ({found.limit.figure:g})")
    if found.peak_mb is not None:
        parts.append(f"{found.peak_mb:g} MiB")
    if verdict := targets.verdict(found):
        parts.append(f"reaches: {verdict}" if verdict != "below floor" else "BELOW THE FLOOR")
    return ", ".join(parts)


def _list(_asked: argparse.Namespace) -> int:
    for workload in workloads.WORKLOADS.values():
        print(f"{workload.name:<12} {workload.summary}")
    return DONE


def _compare(asked: argparse.Namespace) -> int:
    before, after = result.read(asked.before), result.read(asked.after)
    judgements = compare.compare(before, after, tolerance=asked.tolerance)
    for judgement in judgements:
        print(judgement)
    return FAILED if compare.is_bad(judgements) else DONE


def _dump_request(asked: argparse.Namespace) -> int:
    from benchmarks import lookup

    size = data.SIZES["tiny"]
    features = [f"{lookup.VIEW}:{name}" for name in size.features]
    message = lookup.request(features, list(range(1, asked.batch + 1)))
    sys.stdout.buffer.write(lookup.frame(message))
    say(f"method: {lookup.METHOD}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
