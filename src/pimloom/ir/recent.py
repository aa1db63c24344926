"""Arrays that were made lately: what passes, compiling and executing ask for one after another is made once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@final
class Recent:
    """Keeps the arrays asked for last, as many as go into a number of bytes, and the last one in any case."""

    def __init__(self, most_bytes: int) -> None:
        """Nothing kept yet.

        Args:
            most_bytes: of all arrays kept, but for a larger one, which is then alone.
        """
        self.most_bytes, self.held_bytes = most_bytes, 0
        self._arrays: OrderedDict[Hashable, Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """The array of a key.

        Args:
            key: says all that its elements depend on.
            make: makes it, where it is not kept.
        """
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        made = make()
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = made
                self.held_bytes += made.nbytes
                while self.held_bytes > self.most_bytes and len(self._arrays) > 1:
                    self.held_bytes -= self._arrays.popitem(last=False)[1].nbytes
        return made
