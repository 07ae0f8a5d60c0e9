"""Explanations: which rows a value comes from, by which rule, and what was passed over."""
