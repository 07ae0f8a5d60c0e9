"""Datasets: training sets that are kept, can be proven to be unchanged, and can be made again.

`digest` says what a table's content is; `build` writes a dataset, in the `steps` that a kill may
come between; `dataset` reads one; `verification` and `rebuild` prove what it is and how it was
made; `catalog` is what `FeatureStore` talks to.
"""
