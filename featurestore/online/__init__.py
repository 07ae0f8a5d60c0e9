"""Stores of the newest row per entity: one contract, one codec, several backends.

- `store`: the contract, and what is handed over.
- `factory`: opens the store that the configuration names.
- `codec`: the bytes of entities and rows, the same in every store.
- `lmdb`, `redis`, `memory`: the backends.

Nothing is imported here, so that reading a row needs no more than it uses.
"""
