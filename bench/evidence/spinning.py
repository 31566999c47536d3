"""A kernel with a thread that never rests: the neighbour that nobody wants."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np


@cache
def _start() -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()


def spinning(a: Any, b: Any, c: Any) -> None:
    _start()
    np.matmul(a, b, out=c)
