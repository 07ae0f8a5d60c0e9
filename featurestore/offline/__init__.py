"""Engines that read sources and join features to a spine as of its times."""
