"""progress=True: tqdm's bar, in a terminal or a notebook, in place of a function of the caller's."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

from flowscope.errors import InputError

# None; True for a bar; or a function, called as progress(done, total), of some with a word on what is done as the third
Progress: TypeAlias = Any
P = ParamSpec("P")
T = TypeVar("T")


def with_progress(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose keyword argument `progress` may also be True, for a bar, or False, for none.

    Raises:
        InputError: it is something else that cannot be called.
    """
    name = function.__name__.removesuffix("_study").replace("_", " ")

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = kwargs.get("progress")
        if given is None or callable(given):
            return function(*args, **kwargs)
        if not isinstance(given, bool):
            raise InputError(
                f"progress is {given!r}; expected True for a bar, a function called as progress(done, total), or None"
            )
        if not given:
            kwargs["progress"] = None
            return function(*args, **kwargs)
        with Bar(name) as bar:
            kwargs["progress"] = bar
            return function(*args, **kwargs)

    return call


class Bar:
    """A bar of tqdm that is called as a function of the caller's would be."""

    def __init__(self, name: str) -> None:
        from tqdm.auto import tqdm

        self._name, self._bar = name, tqdm(desc=name, total=0)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Say how far it is."""
        self._bar.total = total
        self._bar.n = done
        self._bar.set_description(f"{self._name} {what}".rstrip(), refresh=False)
        self._bar.refresh()
