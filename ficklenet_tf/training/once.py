"""A property that is computed once, without the lock of `functools.cached_property`.

Until Python 3.12 that lock is held while the value is computed. Under `tf.distribute` each replica traces the step in
a thread of its own, and at a sum over replicas one waits for the other: with a lock, for ever.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class once(Generic[_T]):  # noqa: N801  as `property`
    """Decorates a method of no arguments; an object's value belongs to that object, and to one thread."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Learns the property's name."""
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        """Computes the value and puts it in the property's place."""
        value = self._compute(instance)
        instance.__dict__[self._name] = value
        return value
