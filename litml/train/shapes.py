# Exported from nbs/train/17a_shapes.ipynb. Edit either side, then run `litml sync`.
"""Do the sizes that one function gives fit the sizes that another takes? Decided
from their types, before anything runs.
"""

from collections.abc import Callable
from types import GenericAlias
from typing import Any, get_args, get_origin

from jaxtyping import Shaped
from torch import Tensor

from litml.train.device import TrainError

__all__ = [
    "CompositionError",
    "read_axes",
    "HOW",
    "show_type",
    "is_product",
    "product",
    "map_type",
    "Mismatch",
    "Match",
    "is_star",
    "match_numbers",
    "rename_apart",
    "mark_right",
    "ENDING",
    "finish",
]


# ## Axes
# %% read_axes
class CompositionError(TrainError):
    """Arrows that do not fit together, or a type that says too little."""


def read_axes(hint: Any) -> tuple[str, ...]:
    """Return the axes of a tensor's type: `("*batch", "3")`."""
    if hint is Tensor:
        return ("...",)
    if not hasattr(hint, "dim_str"):
        raise CompositionError(f"no type of a tensor: {hint!r}", hint=HOW)
    axes = tuple(hint.dim_str.split())
    for i, axis in enumerate(axes):
        word = axis.removeprefix("*") if i == 0 else axis
        named = word.isidentifier() and word != "_"
        if not (named or word.isdigit() or (i == 0 and word == "...")):
            text = f"{show_type(hint)}: the axis {axis!r} says nothing to compose by"
            raise CompositionError(text, hint=HOW)
    return axes


HOW = 'sizes, names and, first, one `*name`: Float[Tensor, "*batch time 3"]'


def show_type(hint: Any) -> str:
    """Return a type as short as it can be read: `(batch 3, batch 4)`."""
    if is_product(hint):
        return f"({', '.join(map(show_type, get_args(hint)))})"
    if hint is Tensor or not hasattr(hint, "dim_str"):
        return getattr(hint, "__name__", str(hint))
    kind = hint.dtype.__name__
    return f"{'' if kind in ('Float', 'Shaped') else kind + ' '}[{hint.dim_str}]"


def is_product(hint: Any) -> bool:
    """Is it the type of a tuple?"""
    return get_origin(hint) is tuple


def product(*hints: Any) -> Any:
    """Return the type of a tuple of things."""
    return GenericAlias(tuple, hints)


def map_type(hint: Any, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Any:
    """Return a type with other axes."""
    if is_product(hint):
        return product(*(map_type(one, change) for one in get_args(hint)))
    axes = " ".join(change(read_axes(hint)))
    kind = Shaped if hint is Tensor else hint.dtype
    return kind[Tensor, axes]


# ## Matching
# %% Match
class Mismatch(Exception):
    """Two types do not fit, and why."""


class Match:
    """What names of axes stand for, found by matching types."""

    def __init__(self) -> None:
        self.bound: dict[str, tuple[str, ...]] = {}

    def resolve(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Return axes with all that is known put in."""
        done: list[str] = []
        for axis in axes:
            known = self.bound.get(axis)
            done += (axis,) if known is None else self.resolve(known)
        return tuple(done)

    def match(self, left: Any, right: Any) -> None:
        """Match two types, tuples part by part."""
        if is_product(left) or is_product(right):
            lefts, rights = get_args(left), get_args(right)
            if not is_product(left) or not is_product(right):
                raise Mismatch("a tuple is no tensor")
            if len(lefts) != len(rights):
                raise Mismatch(f"{len(lefts)} things are not {len(rights)}")
            for one, other in zip(lefts, rights, strict=True):
                self.match(one, other)
        else:
            match_numbers(left, right)
            self.match_axes(read_axes(left), read_axes(right))

    def match_axes(self, left: tuple[str, ...], right: tuple[str, ...]) -> None:
        """Match axes from the last to the first, which may stand for several."""
        left, right = self.resolve(left), self.resolve(right)
        if left and right and not is_star(left[-1]) and not is_star(right[-1]):
            self.match_axis(left[-1], right[-1])
            self.match_axes(left[:-1], right[:-1])
        elif left == right:
            return
        elif len(right) == 1 and is_star(right[0]):
            self.bind(right[0], left)
        elif len(left) == 1 and is_star(left[0]):
            self.bind(left[0], right)
        else:
            raise Mismatch("one has more axes than the other")

    def match_axis(self, left: str, right: str) -> None:
        """Match two axes: equal sizes, or a name and anything."""
        if left == right:
            return
        if not right.isdigit():
            self.bind(right, (left,))
        elif not left.isdigit():
            self.bind(left, (right,))
        else:
            raise Mismatch(f"{left} is not {right}")

    def bind(self, name: str, axes: tuple[str, ...]) -> None:
        """Let a name stand for axes, which must not hold the name again."""
        if name in axes:
            raise Mismatch(f"{name} would have to be longer than itself")
        self.bound[name] = axes


def is_star(axis: str) -> bool:
    """Does it stand for any number of axes?"""
    return axis.startswith("*")


def match_numbers(left: Any, right: Any) -> None:
    """Refuse a tensor of whole numbers where one of fractions is taken."""
    kinds: list[Any] = [getattr(one, "dtypes", None) for one in (left, right)]
    known = all(isinstance(one, tuple) for one in kinds)  # Shaped says nothing
    if known and not set(kinds[0]) & set(kinds[1]):
        names = [one.dtype.__name__ for one in (left, right)]
        raise Mismatch(f"{names[0]} is not {names[1]}")


# %% rename_apart
def rename_apart(hint: Any) -> Any:
    """Return a type whose names are nobody else's."""
    return map_type(hint, lambda axes: tuple(mark_right(axis) for axis in axes))


def mark_right(axis: str) -> str:
    """Return an axis with a name that a person would not choose."""
    return axis if axis.isdigit() else axis + ENDING


ENDING = "_of_right"


def finish(match: Match, *hints: Any) -> tuple[Any, ...]:
    """Return types with all that is known put in, and readable names."""
    names: dict[str, str] = {}

    def rename(axis: str) -> str:
        wanted = axis.removesuffix(ENDING)
        number = 2
        while axis not in names and wanted in names.values():
            wanted, number = f"{axis.removesuffix(ENDING)}{number}", number + 1
        return names.setdefault(axis, wanted)

    def change(axes: tuple[str, ...]) -> tuple[str, ...]:
        known = match.resolve(axes)
        return tuple(one if one.isdigit() else rename(one) for one in known)

    return tuple(map_type(hint, change) for hint in hints)
