"""Aggregates over windows of time, shared by all engines (SEMANTICS, section 4).

A view's rows are sorted by (key, time) once. Every window that ends at some moment is then a range
of places [low, high), and every aggregate a kernel over ranges, so that more windows and functions
cost little, and a key with millions of rows costs what others cost.
"""
