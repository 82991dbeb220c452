"""What the sentences of several rooms have in common.

The gap: an error that a person is to read has one sentence, a short list of what there is, and no traceback of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SentenceError", "first_line", "some"]


class SentenceError(ValueError):
    """An error whose sentence says it all; Jupyter shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def some(values: Sequence[str], most: int = 6) -> str:
    """Return the first of some names, quoted.

    Examples
    --------
    >>> some(["a", "b", "c"], most=2)
    "'a', 'b', …"
    """
    return ", ".join(map(repr, values[:most])) + (", …" if len(values) > most else "")


def first_line(text: object) -> str:
    """Return the first line of an error or a text; empty if there is none.

    Examples
    --------
    >>> first_line(ValueError("no such column\\nand much more"))
    'no such column'
    """
    return (str(text).strip().splitlines() or [""])[0]
