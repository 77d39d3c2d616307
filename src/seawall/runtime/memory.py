"""Gives memory that imports and a start used, and left, back to the system.

Imports read and compile a lot and keep little of it; the C library keeps the rest for later.
A process that lives long and grows little has no later.
"""

import ctypes


def give_back() -> None:
    """Takes some milliseconds. Does nothing where the C library has no such call (glibc has)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
