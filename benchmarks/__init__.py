"""Benchmarks: workloads by name, each beside its limit and, on request, beside a peer.

Run ``python -m benchmarks list`` from the repository's root. What each number means, what bounds it
and how it is measured is in ``benchmarks/README.md``.
"""
