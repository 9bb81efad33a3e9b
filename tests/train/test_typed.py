"""Arrows compose when their types do, and say so when they do not."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from litml.train.shapes import CompositionError, Match, Mismatch, show_type
from litml.train.typed import (
    Arrow,
    Function,
    TypeMismatch,
    arrow,
    checking,
    feedback,
    join,
    last,
    linear,
    pointwise,
    same,
    scan,
    split_parameters,
)

torch.set_num_threads(1)
F = Float[Tensor, "*batch 4"]


def make_arrow(takes: Any, gives: Any, name: str = "f") -> Arrow[Any, Any]:
    return Function(name, lambda x: x, takes, gives)


# Types -------------------------------------------------------------------------------

axis = st.sampled_from(["2", "3", "a", "b", "c"])
axes = st.tuples(st.sampled_from(["", "*x", "*y"]), st.lists(axis, max_size=4))
types = axes.map(lambda one: " ".join([one[0], *one[1]]).strip())


def instances(text: str) -> set[tuple[int, ...]]:
    """Return the shapes of at most 4 axes of sizes 2 and 3 that jaxtyping accepts."""
    found = set()
    for rank in range(5):
        for number in range(2**rank):
            shape = tuple(2 + (number >> i & 1) for i in range(rank))
            if isinstance(torch.empty(shape), Float[Tensor, text]):
                found.add(shape)
    return found


@given(types, types)
def test_types_match_if_there_is_a_tensor_of_both(left: str, right: str) -> None:
    """Jaxtyping is the judge: names of the right are others than those of the left."""
    apart = " ".join(
        one if one.isdigit() else f"*r{one[1:]}" if one[0] == "*" else f"r{one}"
        for one in right.split()
    )
    match, both = Match(), instances(left) & instances(right)
    try:
        match.match(Float[Tensor, left], Float[Tensor, apart])
    except Mismatch:
        assert not both
    else:
        met = match.resolve(tuple(left.split()))
        assert met == match.resolve(tuple(apart.split()))
        assert instances(" ".join(met)) == both


@pytest.mark.parametrize(
    ("left", "right", "takes", "gives"),
    [
        (("batch 3", "batch 4"), ("*any 4", "*any 2"), "[batch 3]", "[batch 2]"),
        (("*b n", "*b n"), ("batch 3", "batch 5"), "[batch2 3]", "[batch2 5]"),
        (("*b n", "*b"), ("*b n", "*b"), "[*b n2 n]", "[*b]"),
        (("*b", "*b"), ("*b", "*b"), "[*b]", "[*b]"),
        (("a b", "b a"), ("a b", "b a"), "[a b]", "[a b]"),
        (("a", "a"), ("3", "3"), "[3]", "[3]"),
        (("", ""), ("*x", "*x"), "[]", "[]"),
    ],
)
def test_types_of_chains(
    left: tuple[str, str], right: tuple[str, str], takes: str, gives: str
) -> None:
    f, g = (make_arrow(Float[Tensor, a], Float[Tensor, b]) for a, b in (left, right))
    g.name = "g"
    chain = f >> g
    shown = [show_type(one) for one in (chain.takes, chain.gives)]
    x, y = (one.replace("batch2", "batch") for one in shown)
    expected = [one.replace("batch2", "batch") for one in (takes, gives)]
    assert [x.replace("n2", "n"), y] == [expected[0].replace("n2", "n"), expected[1]]
    assert chain.takes.dim_str.count("n") == takes.count("n")


def test_what_is_not_known_matches_anything_each_time_anew() -> None:
    both = Function("both", lambda x: x, tuple[Tensor, Tensor], Shaped[Tensor, "..."])
    assert ((linear("a", 4, 3) | linear("b", 5, 2)) >> both >> linear("c", 7, 1)).name


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (F, Float[Tensor, "*batch 5"], r"'f' gives \[\*batch 4\], and 'g' takes"),
        (F, Float[Tensor, "*batch 5"], "4 is not 5"),
        (Float[Tensor, "batch 4"], Float[Tensor, "batch time 4"], "more axes"),
        (Float[Tensor, "batch 4"], tuple[F, F], "a tuple is no tensor"),
        (tuple[F, F], F, "a tuple is no tensor"),
        (tuple[F, F], tuple[F, F, F], "2 things are not 3"),
        (Int[Tensor, "*batch 4"], F, "Int is not Float"),
        (Float[Tensor, "*a 4"], Float[Tensor, "n n"], None),
        (Float[Tensor, "3 4"], Float[Tensor, "n n"], "3 is not 4"),
        (Float[Tensor, "2 2"], Float[Tensor, "n n"], None),
    ],
)
def test_composition(left: Any, right: Any, message: str | None) -> None:
    f, g = make_arrow(F, left), make_arrow(right, F, "g")
    if message is None:
        assert (f >> g).name == "f >> g"
        return
    with pytest.raises(CompositionError, match=message):
        f >> g


def test_the_two_that_meet_are_named() -> None:
    left = linear("a", 2, 3) >> linear("b", 3, 4)
    right = linear("c", 5, 3) >> linear("d", 3, 1)
    with pytest.raises(CompositionError, match=r"^'b' gives .* and 'c' takes"):
        left >> right
    with pytest.raises(CompositionError, match=r"'a >> b' takes .* 'c' takes"):
        left & right


@pytest.mark.parametrize("axes", ["n+1", "#n", "_", "n *rest", "size=3"])
def test_types_that_say_nothing_to_compose_by(axes: str) -> None:
    with pytest.raises(CompositionError, match="says nothing to compose by"):
        make_arrow(Float[Tensor, axes], F)
    with pytest.raises(CompositionError, match="no type of a tensor"):
        make_arrow(int, F)


# Networks ----------------------------------------------------------------------------


def make_rnn() -> Arrow[Tensor, Tensor]:
    torch.manual_seed(0)
    cell = join(3, 8) >> linear("weigh", 11, 8) >> pointwise(torch.tanh)
    return scan(feedback(cell)) >> last >> linear("answer", 8, 2)


def test_a_composed_network_is_an_ordinary_module(tmp_path: Path) -> None:
    model, x = make_rnn(), torch.rand(4, 6, 3)
    expected = model(x)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), expected) and copied.signature == model.signature
    loaded = pickle.loads(pickle.dumps(model))
    assert torch.equal(loaded(x), expected) and loaded.signature == model.signature
    with torch.no_grad():
        for one in copied.parameters():
            one.zero_()
    assert torch.equal(model(x), expected), "a copy has its own weights"
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    copied.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(copied(x), expected)
    assert len(list(model.parameters())) == 4


def test_lstm_from_arrows_is_torchs() -> None:
    """A state may be a pair: here the cell of an LSTM."""

    class Gates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weigh = nn.Linear(3 + 5, 20)

        def forward(self, given: Any) -> Any:
            x, (h, c) = given
            weighed = self.weigh(torch.cat([x, h], dim=1))
            i, f, g, o = weighed.chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            return h, (h, c)

    x, h = Float[Tensor, "batch 3"], Float[Tensor, "batch 5"]
    cell = Function("lstm", Gates(), tuple[x, tuple[h, h]], tuple[h, tuple[h, h]])
    model, theirs = scan(cell), nn.LSTM(3, 5, batch_first=True)
    with torch.no_grad():
        weights = torch.cat([theirs.weight_ih_l0, theirs.weight_hh_l0], dim=1)
        cell.compute.weigh.weight.copy_(weights)
        cell.compute.weigh.bias.copy_(theirs.bias_ih_l0 + theirs.bias_hh_l0)
    xs = torch.rand(2, 7, 3)
    torch.testing.assert_close(model(xs), theirs(xs)[0])
    assert model.signature == "[batch time 3] -> [batch time 5]"


def test_one_arrow_twice_is_one_set_of_weights() -> None:
    f = linear("f", 4, 4)
    assert len(list((f >> f >> f).parameters())) == 2
    assert len(list(((f & f) | (f >> f)).parameters())) == 2
    inner = (linear("a", 4, 4) & same) >> join(4, 4)
    other = (linear("a", 8, 4) & same) >> join(4, 8)
    names = list((inner >> other).state_dict())
    assert len(names) == 4, "chains and branches get numbers"
    with pytest.raises(CompositionError, match="two arrows are called 'f'"):
        f >> linear("f", 4, 4)


def test_side_by_side() -> None:
    f, g = linear("f", 4, 3), linear("g", 2, 5)
    left, right = (f | g)((torch.ones(6, 4), torch.ones(7, 2)))
    assert left.shape == (6, 3) and right.shape == (7, 5)
    assert (f | g).signature == "([*batch 4], [*batch2 2]) -> ([*batch 3], [*batch2 5])"


@pytest.mark.parametrize(
    ("takes", "gives", "message"),
    [
        ("batch 3", "batch 3", "is no step"),
        (("batch 3", "batch 8"), "batch 8", "is no step"),
        (("batch 3", "batch 8"), ("batch 8", "batch 7"), "8 is not 7"),
        (("batch 3", "batch n"), ("batch 8", "batch n"), "a size that nobody knows"),
        (("batch 3", "2 8"), ("batch 8", "2 8"), "does not begin with a batch"),
        (("batch 3", ""), ("batch 8", ""), "does not begin with a batch"),
    ],
)
def test_steps_that_are_none(takes: Any, gives: Any, message: str) -> None:
    def read(text: Any) -> Any:
        if isinstance(text, tuple):
            return tuple[tuple(map(read, text))]  # type: ignore[misc]
        return Float[Tensor, text]

    with pytest.raises(CompositionError, match=message):
        scan(make_arrow(read(takes), read(gives)))


# Parameters and run time -------------------------------------------------------------


def test_parameters_are_arguments() -> None:
    model, x = make_rnn(), torch.rand(4, 6, 3)
    parameters, apply = split_parameters(model)
    torch.testing.assert_close(apply(parameters, x), model(x))
    zero = {name: torch.zeros_like(one) for name, one in parameters.items()}
    assert apply(zero, x).abs().sum() == 0
    many = {name: torch.stack([one, 2 * one]) for name, one in parameters.items()}
    both = torch.func.vmap(apply, in_dims=(0, None))(many, x)
    torch.testing.assert_close(both[0], model(x))


def test_words_are_kept_or_told() -> None:
    model, x = make_rnn(), torch.rand(4, 6, 3)
    with checking(model):
        model(x)
        with pytest.raises(TypeMismatch, match=r"takes \[batch time 3\], and here"):
            model(torch.rand(4, 6, 2))
        with pytest.raises(TypeMismatch, match=r"torch\.int64"):
            model(torch.ones(4, 6, 3, dtype=torch.long))
    with pytest.raises(RuntimeError):
        model(torch.rand(4, 6, 2))  # torch's own words again

    @arrow
    def transpose(x: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
        return x.T

    with checking(transpose):
        transpose(torch.rand(3, 3))
        with pytest.raises(TypeMismatch, match=r"'transpose' gives \[a b\], and here"):
            transpose(torch.rand(3, 2))


def test_jaxtypings_own_decorator_works_inside() -> None:
    beartype = pytest.importorskip("beartype", reason="checks at run time").beartype
    from jaxtyping import TypeCheckError, jaxtyped

    @arrow
    @jaxtyped(typechecker=beartype)
    def double(x: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3"]:
        return 2 * x

    assert (double >> linear("a", 3, 2))(torch.rand(4, 3)).shape == (4, 2)
    with pytest.raises(TypeCheckError):
        double(torch.rand(4, 2))


def test_signatures_without_a_type() -> None:
    def two(x: F, y: F) -> F:  # type: ignore[valid-type]
        return x

    def silent(x: F):  # type: ignore
        return x

    for function in (two, silent, lambda x: x):
        with pytest.raises(CompositionError, match="does not say one thing"):
            arrow(function)


PROGRAM = """
from torch import Tensor
from litml.train.typed import Arrow, join, linear, same

good: Arrow[Tensor, Tensor] = (same & linear("a", 4, 3)) >> join(4, 3)
pair: tuple[Tensor, Tensor] = (same & same)(good(Tensor()))
join(4, 3) >> join(4, 3)
good(pair)
wrong: Arrow[Tensor, Tensor] = same | same
"""


@pytest.mark.slow(reason="mypy reads torch: half a minute without its cache")
def test_mypy_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    paths = {**os.environ, "MYPYPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=paths, capture_output=True, text=True
    )
    found = re.findall(r"^program\.py:(\d+): error", done.stdout, re.MULTILINE)
    assert found == ["7", "8", "9"], done.stdout
