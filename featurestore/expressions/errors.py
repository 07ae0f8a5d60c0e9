"""What can be wrong with an expression, and with a row that it is computed for."""

from featurestore.errors import close_names, did_you_mean


class InvalidExpressionError(ValueError):
    """An expression that cannot be used; the message says what in it, and what to write instead."""


def unknown(what: str, name: str, known: tuple[str, ...], advice: str = "") -> str:
    """Return `there is no function 'abss'; did you mean 'abs'?`, or the advice without a guess."""
    guess = did_you_mean(close_names(name, known, count=2))
    rest = guess or advice
    return f"there is no {what} {name[:80]!r}{f'; {rest}' if rest else ''}"


class RowError(Exception):
    """A row has no value: an overflow, a division by zero.

    Attributes:
        row: Position of the row among those that were computed.
        reason: What happened, without a dot.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason
