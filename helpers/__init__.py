"""From tensor to decision: what happens to a TensorFlow model outside training.

One module a subject. ``import helpers`` is cheap: a module, and with it TensorFlow or matplotlib where it needs them,
is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

__all__ = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
