"""What this package proves itself with, for everybody who adds to it.

- `oracle`: `SEMANTICS` in plain Python; slow, and obviously right.
- `plain`: tables as rows of Python values with exact times, to and from Arrow and Parquet.
- `strategies`: Hypothesis strategies for views, histories and spines (needs `hypothesis`).
- `scenarios`: the reader of scenario files; `runners` runs them on the oracle and on a store.
- `offline`, `online`: conformance suites that an engine or a store of your own subclasses
  (they need `pytest`).

Nothing here is imported by the product.
"""
