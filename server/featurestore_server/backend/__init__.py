"""The process beside the lookup workers: training sets, pushes and the registry.

It listens at a socket of its user's alone, where workers pass on the calls of those whom they let
in; nobody is asked for a key here. It may load what workers must not: engines, the registry.
"""
