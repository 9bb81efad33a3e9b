"""A network written as an expression is the network somebody writes as a class."""

import copy
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from litml.train.graph import (
    GraphError,
    Input,
    Layer,
    SymbolicTensor,
    build_network,
    draw_network,
)

torch.set_num_threads(1)


class ByHand(nn.Module):
    """The network of `make_network`, written twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.read = nn.GRU(8, 12, batch_first=True)
        self.look = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.join = nn.Linear(4 * 6 * 6 + 12, 16)
        self.answer = nn.Linear(16, 5)
        self.sure = nn.Linear(16, 1)

    def forward(self, image: Tensor, words: Tensor) -> dict[str, Tensor]:
        last = self.read(self.embed(words))[1][0]
        both = torch.cat([self.look(2 * image - 1), last], dim=1)
        x = nn.functional.gelu(self.join(both)) * 0.5
        return {"answer": self.answer(x), "sure": self.sure(x)[:, 0].sigmoid()}


def make_network() -> torch.fx.GraphModule:
    image, words = Input("image", 1, 8, 8), Input("words", "time", dtype=torch.long)
    embed, read = Layer("embed", nn.Embedding(50, 8)), nn.GRU(8, 12, batch_first=True)
    look = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
    last = Layer("read", read)(embed(words))[1][0]
    both = torch.cat([Layer("look", look)(2 * image - 1), last], dim=1)
    x = nn.functional.gelu(Layer("join", nn.LazyLinear(16))(both)) * 0.5
    answer = Layer("answer", nn.Linear(16, 5))(x)
    sure = Layer("sure", nn.Linear(16, 1))(x)[:, 0].sigmoid()
    return build_network([image, words], {"answer": answer, "sure": sure})


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(3, 1, 8, 8), torch.randint(50, (3, 6))


def same(left: object, right: object) -> bool:
    if isinstance(left, dict):
        assert isinstance(right, dict) and list(left) == list(right)
        return all(same(left[name], right[name]) for name in left)
    assert isinstance(left, Tensor) and isinstance(right, Tensor)
    return torch.equal(left, right)


def test_it_computes_what_the_class_computes(batch: tuple[Tensor, Tensor]) -> None:
    network, by_hand = make_network(), ByHand()
    by_hand.load_state_dict(network.state_dict())  # the names are the same, too
    assert same(network(*batch), by_hand(*batch))
    assert same(network(words=batch[1], image=batch[0]), by_hand(*batch))
    for one in (network, by_hand):
        out = one(*batch)
        (out["answer"].sum() + out["sure"].sum()).backward()
    pairs = zip(network.named_parameters(), by_hand.named_parameters(), strict=True)
    gradients = {name: one.grad for name, one in by_hand.named_parameters()}
    for (name, one), _ in pairs:
        assert torch.equal(one.grad, gradients[name]), name  # type: ignore[arg-type]


def test_it_is_an_ordinary_module(batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network = make_network().eval()
    expected = network(*batch)
    assert same(copy.deepcopy(network)(*batch), expected)
    assert same(pickle.loads(pickle.dumps(network))(*batch), expected)
    assert same(torch.compile(network, backend="aot_eager")(*batch), expected)
    exported = torch.export.export(network, batch)
    assert same(exported.module()(*batch), expected)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = make_network().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert same(other(*batch), expected)


def test_a_saved_network_needs_nothing_of_this_library(
    batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    network = make_network()
    torch.save((network, batch, network(*batch)), tmp_path / "all.pt")
    script = (
        "import sys, torch; sys.modules['litml'] = None\n"
        "network, batch, expected = torch.load(sys.argv[1], weights_only=False)\n"
        "assert torch.equal(network(*batch)['answer'], expected['answer'])"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "all.pt"], check=True)


def test_drawn_the_same_after_a_copy() -> None:
    network = make_network()
    drawing = draw_network(network)
    assert draw_network(copy.deepcopy(network)) == drawing
    assert "Embedding(words)" in drawing and "(batch, time, 8)" in drawing
    assert "(batch, 156)" in drawing  # the concatenation
    total = sum(one.numel() for one in network.parameters())
    last = [line.split()[-1].replace(",", "") for line in drawing.split("\n")]
    assert sum(int(number) for number in last if number.isdigit()) == total
    loaded = pickle.loads(pickle.dumps(network))
    assert "Embedding(words)" in draw_network(loaded)


X = Input("x", 6)


def test_every_operator_is_recorded() -> None:
    x, y = Input("x", 6), Input("y", 6)
    made: list[Tensor] = [
        x + y, 1 + x, x - 1, 1 - x, x * y, 2 * x, x / 2, 2 / (x + 2), x**2, 2**x, -x,
        abs(x), x @ y.T, x.mT, x[:, 1:3], x[..., 0], x[:, None], x > 0, x >= y,
        (x > 0) & (y > 0), ~(x > 0), x == y, x // 2, x % 2, x.unflatten(1, (2, 3)),
        torch.where(x > 0, x, y), x.max(dim=1).values, x.split([2, 4], dim=1)[1],
        torch.stack((x, y)), x.float().mean(), x.reshape(-1, 3), x.clone(),
        torch.nn.functional.softmax(x, dim=-1), torch.einsum("bi,bi->b", x, y),
        x.to(torch.float64), torch.zeros_like(y) + x * y,
    ]  # fmt: skip
    network = build_network([x, y], made)
    a, b = torch.rand(4, 6), torch.rand(4, 6)
    again = [
        a + b, 1 + a, a - 1, 1 - a, a * b, 2 * a, a / 2, 2 / (a + 2), a**2, 2**a, -a,
        abs(a), a @ b.T, a.mT, a[:, 1:3], a[..., 0], a[:, None], a > 0, a >= b,
        (a > 0) & (b > 0), ~(a > 0), a == b, a // 2, a % 2, a.unflatten(1, (2, 3)),
        torch.where(a > 0, a, b), a.max(dim=1).values, a.split([2, 4], dim=1)[1],
        torch.stack((a, b)), a.float().mean(), a.reshape(-1, 3), a.clone(),
        torch.nn.functional.softmax(a, dim=-1), torch.einsum("bi,bi->b", a, b),
        a.to(torch.float64), torch.zeros_like(b) + a * b,
    ]  # fmt: skip
    for symbol, value, expected in zip(made, network(a, b), again, strict=True):
        torch.testing.assert_close(value, expected)
        assert isinstance(symbol, SymbolicTensor) and symbol.dtype == expected.dtype
        known = [one.replace("batch", "4") for one in map(str, symbol.shape)]
        assert [eval(one) for one in known] == list(expected.shape)


def test_a_layer_is_called_with_more_than_tensors() -> None:
    words, real = Input("words", "time", 8), Input("real", "time", dtype=torch.bool)
    attend = Layer("attend", nn.MultiheadAttention(8, 2, batch_first=True))
    seen, none = attend(words, words, words, key_padding_mask=~real, need_weights=False)
    assert none is None and seen.shape == ("batch", "time", 8)
    network = build_network([words, real], seen)
    x, mask = torch.rand(2, 5, 8), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected, _ = attend.module(x, x, x, key_padding_mask=~mask)
    torch.testing.assert_close(network(x, mask), expected)


def test_networks_are_layers_of_networks(batch: tuple[Tensor, Tensor]) -> None:
    inner = make_network()
    image, words = Input("image", 1, 8, 8), Input("words", "time", dtype=torch.long)
    out = Layer("inner", inner)(image, words)
    assert out["answer"].shape == ("batch", 5)
    outer = build_network([image, words], out["answer"].argmax(dim=1))
    assert torch.equal(outer(*batch), inner(*batch)["answer"].argmax(dim=1))
    assert "inner.embed.weight" in outer.state_dict()


def test_a_shared_layer_has_one_set_of_weights() -> None:
    left, right = Input("left", 4), Input("right", 4)
    encode = Layer("encode", nn.Linear(4, 3))
    network = build_network([left, right], encode(left) - encode(right))
    assert list(network.state_dict()) == ["encode.weight", "encode.bias"]
    network(torch.rand(2, 4), torch.rand(2, 4)).sum().backward()
    bias = network.encode.bias.grad
    assert torch.equal(bias, torch.zeros(3)), "both uses count"


def test_a_long_network_is_built_without_recursion() -> None:
    x = first = Input("x", 2)
    for _ in range(3000):
        x = x + 1  # type: ignore[assignment]
    assert build_network([first], x)(torch.zeros(1, 2)).tolist() == [[3000, 3000]]


# Mistakes ----------------------------------------------------------------------------


def test_a_wrong_shape_is_told_where_the_layer_is_called() -> None:
    answer = Layer("answer", nn.Linear(7, 2))
    with pytest.raises(GraphError, match=r"layer 'answer', Linear.*\(batch, 6\)") as e:
        answer(X)  # this line
    last = [one for one in traceback.extract_tb(e.tb) if one.filename == __file__]
    assert last[-1].line == "answer(X)  # this line"
    assert "[batch, 6] X [7, 2]" in str(e.value)


def double_names() -> None:
    a, b = Layer("a", nn.Linear(6, 6)), Layer("a", nn.Linear(6, 6))
    build_network([X], b(a(X)))


def name_of_an_input() -> None:
    build_network([X], Layer("x", nn.Linear(6, 6))(X))


def one_module_twice() -> None:
    module = nn.Linear(6, 6)
    build_network([X], Layer("a", module)(Layer("b", module)(X)))


def parameter_outside() -> None:
    nn.Linear(6, 2)(X)


def unused_input() -> None:
    build_network([X, Input("y", 6)], X + 1)


def forgotten_input() -> None:
    build_network([Input("y", 6)], X + 1)


def same_input_name() -> None:
    y = Input("x", 6)
    build_network([X, y], X + y)


def a_value_for_an_input() -> None:
    build_network([X + 1], X + 2)


def lazy_misfit() -> None:
    module = nn.Sequential(nn.LazyLinear(5), nn.Linear(4, 2))
    Layer("misfit", module)(X)


class Outside(nn.Module):
    """A module with a tensor that it keeps to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(6)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def size_of_the_batch() -> None:
    X.reshape(X.size(0), 2, 3)


def rows() -> None:
    list(X)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (double_names, "two layers are called 'a'"),
        (name_of_an_input, "an input and a layer are called 'x'"),
        (one_module_twice, "are one module"),
        (parameter_outside, "linear is called with a tensor that has values"),
        (unused_input, "no output depends on input 'y'"),
        (forgotten_input, "the outputs need input 'x', which is not given"),
        (same_input_name, "two inputs are called 'x'"),
        (a_value_for_an_input, "not an input"),
        (lazy_misfit, "layer 'misfit' cannot find out its sizes"),
        (size_of_the_batch, "size asks for a size"),
        (rows, "asks for a size"),
        (lambda: bool(X.sum() > 0), "does not fit"),
        (lambda: X.sum().item(), "no values are known here"),
        (lambda: Layer("a", Outside())(X), "a module's tensors are buffers"),
        (lambda: X.relu_(), "in place"),
        (lambda: X.__setitem__(0, 1), "in place"),
        (lambda: torch.add(X, 1, out=torch.zeros(6)), "in place"),
        (lambda: X[:, 6], "__getitem__ does not fit"),
        (lambda: X.view(5, 5), "view does not fit"),
        (lambda: build_network([X], []), "not connected"),
        (lambda: build_network([X], {}), "not connected"),
        (lambda: build_network([X], {"a": X, "b": torch.ones(2)}), "not connected"),
        (lambda: Layer("training", nn.ReLU()), "every module has"),
        (lambda: Layer("forward", nn.ReLU()), "every module has"),
        (lambda: Layer("a.b", nn.ReLU()), "no name of Python"),
        (lambda: Input("lambda", 3), "no name of Python"),
    ],
)
def test_mistakes(mistake, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(GraphError, match=message):
        mistake()


def test_a_size_that_is_not_known_cannot_be_used_as_a_number() -> None:
    assert X.shape == ("batch", 6)
    with pytest.raises(TypeError):
        X.reshape(X.shape[0], 2, 3)


def test_building_changes_no_module_and_draws_no_number() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5))
    state, before = torch.get_rng_state(), copy.deepcopy(norm.state_dict())
    Layer("norm", norm)(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(norm.state_dict()[name], before[name]) for name in before)
    lazy = nn.LazyBatchNorm1d()
    Layer("lazy", lazy)(X)
    assert lazy.training and lazy.num_batches_tracked == 0


def test_at_run_time_the_step_is_named(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(RuntimeError) as e:
        make_network()(torch.rand(3, 1, 9, 9), batch[1])
    assert "self.join(" in "".join(traceback.format_exception(e.value))
