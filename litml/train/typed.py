# Exported from nbs/train/18_typed.ipynb. Edit either side, then run `litml sync`.
"""Functions with parameters and a type, composed with `>>`, `|` and `&`; a mistake
is found when they are put together, and names both sides.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_type_hints

import torch
from jaxtyping import Float, Shaped, jaxtyped
from torch import Tensor, nn

from litml.train.device import TrainError
from litml.train.shapes import (
    HOW,
    CompositionError,
    Match,
    Mismatch,
    finish,
    is_product,
    map_type,
    product,
    read_axes,
    rename_apart,
    show_type,
)

__all__ = [
    "A",
    "B",
    "C",
    "D",
    "S",
    "Arrow",
    "Function",
    "name_unknown",
    "NUMBERS",
    "arrow",
    "compose",
    "find_end",
    "Parts",
    "Chain",
    "Parallel",
    "Branch",
    "linear",
    "pointwise",
    "join",
    "join_last",
    "get_same",
    "get_last",
    "SHAPE",
    "same",
    "last",
    "Scan",
    "scan",
    "split_step",
    "share_batch",
    "add_time",
    "make_state",
    "feedback",
    "split_parameters",
    "TypeMismatch",
    "checking",
    "check_given",
    "check_result",
    "check",
    "fits",
    "show_value",
]


# ## Arrows
# %% Arrow
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
S = TypeVar("S")


class Arrow(nn.Module, Generic[A, B]):
    """A function with parameters, a name and a type."""

    def __init__(self, name: str, takes: Any, gives: Any) -> None:
        super().__init__()
        self.name, self.takes, self.gives = name, takes, gives

    if TYPE_CHECKING:

        def __call__(self, given: A) -> B:
            """Return what the arrow makes of what it is given."""
            ...

    def __rshift__(self, other: "Arrow[B, C]") -> "Arrow[A, C]":
        return Chain(self, other)

    def __or__(self, other: "Arrow[C, D]") -> "Arrow[tuple[A, C], tuple[B, D]]":
        return Parallel(self, other)

    def __and__(self, other: "Arrow[A, C]") -> "Arrow[A, tuple[B, C]]":
        return Branch(self, other)

    @property
    def key(self) -> str:
        """What it is called as a part: in the names of parameters."""
        return self.name

    @property
    def signature(self) -> str:
        """What it takes and gives, to be read."""
        return f"{show_type(self.takes)} -> {show_type(self.gives)}"

    def extra_repr(self) -> str:
        """Return the line that `print` shows of the module."""
        return f"{self.name}: {self.signature}"


# %% Function
class Function(Arrow[A, B]):
    """An arrow made of a module, or of a function without parameters."""

    def __init__(
        self, name: str, compute: Callable[[A], B], takes: Any, gives: Any
    ) -> None:
        if not name.isidentifier():
            raise CompositionError(
                f"{name!r} is no name of Python, so none of an arrow"
            )
        takes, gives = (map_type(one, name_unknown) for one in (takes, gives))
        super().__init__(name, takes, gives)
        self.compute = compute

    def forward(self, given: A) -> B:
        """Return what the function makes of what it is given."""
        return self.compute(given)


def name_unknown(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Return axes with a name of its own for each `...`."""
    return tuple(f"*any{next(NUMBERS)}" if axis == "..." else axis for axis in axes)


NUMBERS = itertools.count(1)


def arrow(function: Callable[[A], B]) -> Arrow[A, B]:
    """Return an arrow that has the type of a function's signature.

    As a decorator it takes the function's place, and `pickle` looks for it there: a
    model that is pickled whole needs both, `step = arrow(compute_step)`.
    """
    hints = get_type_hints(function, include_extras=True)
    name = getattr(function, "__name__", "function")
    gives = hints.pop("return", None)
    if gives is None or len(hints) != 1:
        text = f"{name!r} does not say one thing that it takes and what it gives"
        raise CompositionError(text, hint=HOW)
    return Function(name, function, next(iter(hints.values())), gives)


# ## Composing
# %% compose
def compose(left: Arrow[Any, Any], right: Arrow[Any, Any], shared: str) -> Any:
    """Return left's and right's types after matching what they share.

    Shared is what right takes, with what left gives (`chain`) or takes (`branch`), or
    nothing. The result is left takes, left gives, right takes, right gives.
    """
    takes, gives = get_args(rename_apart(product(right.takes, right.gives)))
    match = Match()
    if shared:
        mine = left.gives if shared == "chain" else left.takes
        try:
            match.match(mine, takes)
        except Mismatch as error:
            verb = "gives" if shared == "chain" else "takes"
            ends = find_end(left, -1) if shared == "chain" else left.name
            raise CompositionError(
                f"{ends!r} {verb} {show_type(mine)}, "
                f"and {find_end(right, 0)!r} takes {show_type(right.takes)}: {error}"
            ) from None
    return finish(match, left.takes, left.gives, takes, gives)


def find_end(part: Arrow[Any, Any], place: int) -> str:
    """Return the name of a chain's first or last arrow."""
    return (
        find_end(part.parts()[place], place) if isinstance(part, Chain) else part.name
    )


# %% Parts
class Parts(Arrow[A, B]):
    """An arrow made of arrows."""

    def __init__(
        self, name: str, parts: list[Arrow[Any, Any]], takes: Any, gives: Any
    ) -> None:
        super().__init__(name, takes, gives)
        self.order: list[str] = []
        self.arrows = nn.ModuleDict()
        for part in parts:
            self.order.append(self.add(part))

    @property
    def key(self) -> str:
        """What it is called as a part: its name is a formula."""
        return type(self).__name__.lower()

    def add(self, part: Arrow[Any, Any]) -> str:
        """Hold a part, and return the name it has here."""
        name, number = part.key, 2
        while self.is_taken(name, part):
            if (
                not isinstance(part, Parts)
                and name in self.arrows
                and part.state_dict()
            ):
                text = f"two arrows are called {part.name!r}"
                raise CompositionError(text, hint="to share weights, use one twice")
            name, number = f"{part.key}{number}", number + 1
        self.arrows[name] = part
        return name

    def is_taken(self, name: str, part: Arrow[Any, Any]) -> bool:
        """Is a name that of another part, or of something that every module has?"""
        if name in self.arrows:
            return self.arrows[name] is not part
        return hasattr(self.arrows, name)

    def parts(self) -> list[Arrow[Any, Any]]:
        """Return the parts in their order."""
        arrows: Any = self.arrows  # a ModuleDict of arrows; to mypy, of modules
        return [arrows[name] for name in self.order]


class Chain(Parts[A, C]):
    """One after the other."""

    def __init__(self, left: Arrow[A, B], right: Arrow[B, C]) -> None:
        takes, _, _, gives = compose(left, right, "chain")
        sides = (left, right)
        flat = [one.parts() if isinstance(one, Chain) else [one] for one in sides]
        name = f"{left.name} >> {right.name}"
        super().__init__(name, [*flat[0], *flat[1]], takes, gives)

    def forward(self, given: A) -> C:
        """Return what the last part gives."""
        value: Any = given
        for part in self.parts():
            value = part(value)
        last: C = value
        return last


class Parallel(Parts[tuple[A, C], tuple[B, D]]):
    """Side by side, each on its own."""

    def __init__(self, left: Arrow[A, B], right: Arrow[C, D]) -> None:
        a, b, c, d = compose(left, right, "")
        name = f"({left.name} | {right.name})"
        super().__init__(name, [left, right], product(a, c), product(b, d))

    def forward(self, given: tuple[A, C]) -> tuple[B, D]:
        """Return what each part makes of its side."""
        left, right = self.parts()
        return left(given[0]), right(given[1])


class Branch(Parts[A, tuple[B, C]]):
    """Both on the same."""

    def __init__(self, left: Arrow[A, B], right: Arrow[A, C]) -> None:
        takes, b, _, c = compose(left, right, "branch")
        name = f"({left.name} & {right.name})"
        super().__init__(name, [left, right], takes, product(b, c))

    def forward(self, given: A) -> tuple[B, C]:
        """Return what each part makes of the same."""
        left, right = self.parts()
        return left(given), right(given)


# ## A few arrows
# %% linear
def linear(name: str, inputs: int, outputs: int) -> Arrow[Tensor, Tensor]:
    """Return a linear arrow, over the last axis."""
    takes, gives = (Float[Tensor, f"*batch {size}"] for size in (inputs, outputs))
    return Function(name, nn.Linear(inputs, outputs), takes, gives)


def pointwise(function: Callable[[Tensor], Tensor]) -> Arrow[Tensor, Tensor]:
    """Return the arrow of a function of each number: `pointwise(torch.tanh)`."""
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name.isidentifier() else "function"  # a lambda
    return Function(name, function, Float[Tensor, "*shape"], Float[Tensor, "*shape"])


def join(left: int, right: int) -> Arrow[tuple[Tensor, Tensor], Tensor]:
    """Return the arrow that makes one vector of two."""
    one, other, both = (
        Float[Tensor, f"*batch {size}"] for size in (left, right, left + right)
    )
    return Function("join", join_last, product(one, other), both)


def join_last(parts: tuple[Tensor, Tensor]) -> Tensor:
    """Return two tensors as one, along the last axis."""
    return torch.cat(parts, dim=-1)


def get_same(x: Tensor) -> Tensor:
    """Return what it is given."""
    return x


def get_last(x: Tensor) -> Tensor:
    """Return the last of a sequence."""
    return x[:, -1]


SHAPE = Shaped[Tensor, "*shape"]
same = Function("same", get_same, SHAPE, SHAPE)
last = Function(
    "last",
    get_last,
    Shaped[Tensor, "batch time size"],
    Shaped[Tensor, "batch size"],
)


# ## State
# %% scan
class Scan(Parts[Tensor, Tensor]):
    """A step, run along the second axis of a sequence."""

    def __init__(self, step: Arrow[tuple[Tensor, S], tuple[Tensor, S]]) -> None:
        given, gives = split_step(step)
        match = Match()
        try:
            match.match(given[1], gives[1])
        except Mismatch as error:
            raise CompositionError(
                f"{step.name!r} takes a state {show_type(given[1])}, "
                f"and gives a state {show_type(gives[1])}: {error}"
            ) from None
        for hint in (*given, *gives):
            share_batch(match, hint)
        x, y, state = finish(match, given[0], gives[0], given[1])
        takes, gives = map_type(x, add_time), map_type(y, add_time)
        super().__init__(f"scan({step.name})", [step], takes, gives)
        self.state = state
        make_state(state, torch.empty(0))  # a size that is not known is told now

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the outputs: (batch, time, ...)."""
        (step,), state = self.parts(), make_state(self.state, sequence)
        outputs = []
        for x in sequence.unbind(dim=1):
            y, state = step((x, state))
            outputs.append(y)
        return torch.stack(outputs, dim=1)


def scan(step: Arrow[tuple[Tensor, S], tuple[Tensor, S]]) -> Arrow[Tensor, Tensor]:
    """Return the arrow between sequences that a step makes."""
    return Scan(step)


def split_step(step: Arrow[Any, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what a step takes and gives, as pairs: a tensor and a state."""
    sides = get_args(step.takes), get_args(step.gives)
    if any(len(side) != 2 or is_product(side[0]) for side in sides):
        raise CompositionError(
            f"{step.name!r} is no step: {step.signature}",
            hint="a step is ([batch ...], state) -> ([batch ...], state)",
        )
    return sides


def share_batch(match: Match, hint: Any) -> None:
    """Let the first axis of each tensor be one and the same."""
    if is_product(hint):
        for one in get_args(hint):
            share_batch(match, one)
        return
    first = match.resolve(read_axes(hint))[:1]
    if not first or first[0].isdigit():
        raise CompositionError(
            f"{show_type(hint)} of a step does not begin with a batch"
        )
    if first != ("batch",):
        match.bind(first[0], ("batch",))


def add_time(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the axes of a sequence of such tensors."""
    return axes[0], "time", *axes[1:]


def make_state(state: Any, sequence: Tensor) -> Any:
    """Return zeros of a state's sizes, for the batch of a sequence."""
    if is_product(state):
        return tuple(make_state(one, sequence) for one in get_args(state))
    _, *sizes = read_axes(state)
    if not all(size.isdigit() for size in sizes):
        text = f"the state {show_type(state)} has a size that nobody knows"
        raise CompositionError(text, hint="after the batch it needs numbers")
    return sequence.new_zeros(sequence.shape[0], *map(int, sizes))


def feedback(
    function: Arrow[tuple[A, Tensor], Tensor],
) -> Arrow[tuple[A, Tensor], tuple[Tensor, Tensor]]:
    """Return the step whose state is its last output."""
    return function >> (same & same)


# ## Parameters as arguments
# %% split_parameters
def split_parameters(
    model: Arrow[A, B],
) -> tuple[dict[str, Tensor], Callable[[Mapping[str, Tensor], A], B]]:
    """Return an arrow's parameters, and the function of parameters and input."""

    def apply(parameters: Mapping[str, Tensor], given: A) -> B:
        state = dict(parameters)
        made: B = torch.func.functional_call(model, state, (given,))
        return made

    return {name: one.detach() for name, one in model.named_parameters()}, apply


# ## Checking what is said
# %% checking
class TypeMismatch(TrainError):
    """An arrow was given, or gave, something else than its type says."""


@contextmanager
def checking(model: nn.Module) -> Iterator[None]:
    """Check each call of each arrow of a model, inside of the `with`."""
    parts = [part for part in model.modules() if isinstance(part, Arrow)]
    hooks = [part.register_forward_pre_hook(check_given) for part in parts]
    hooks += [part.register_forward_hook(check_result) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_given(part: nn.Module, given: tuple[Any, ...]) -> None:
    """Refuse a call with something else than the arrow takes."""
    with jaxtyped("context"):
        check(part, "takes", given[0])


def check_result(part: nn.Module, given: tuple[Any, ...], result: Any) -> None:
    """Refuse something else than the arrow gives for what it was given."""
    with jaxtyped("context"):
        check(part, "takes", given[0])
        check(part, "gives", result)


def check(part: nn.Module, verb: str, value: Any) -> None:
    """Refuse a value that is not of the type."""
    hint = getattr(part, verb)
    if not fits(value, hint):
        raise TypeMismatch(
            f"{part.name!r} {verb} {show_type(hint)}, and here {show_value(value)}"
        )


def fits(value: Any, hint: Any) -> bool:
    """Is a value of a type?"""
    if not is_product(hint):
        return isinstance(value, hint)
    hints = get_args(hint)
    if not isinstance(value, tuple) or len(value) != len(hints):
        return False
    return all(fits(one, other) for one, other in zip(value, hints, strict=True))


def show_value(value: Any) -> str:
    """Return the sizes of a value, as types are shown."""
    if isinstance(value, tuple):
        return f"({', '.join(map(show_value, value))})"
    if isinstance(value, Tensor):
        return f"[{' '.join(map(str, value.shape))}] of {value.dtype}"
    return type(value).__name__
