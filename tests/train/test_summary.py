"""The summary of a model against torch's own counts and shapes."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="litml.train needs the extra litml[train]")

from torch import nn  # noqa: E402

from litml.train.summary import summarize  # noqa: E402


class Shared(nn.Module):
    """A layer called twice, tied weights, a layer never called, a parameter alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.mix = nn.Linear(4, 4)
        self.same = self.mix
        self.idle = nn.Linear(4, 3)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, left: Any, right: Any) -> Any:
        both = self.mix(self.embed(left)).sum(1) + self.same(self.embed(right)).sum(1)
        return self.head(both) * self.scale


def words(*shape: int) -> Any:
    return torch.zeros(shape, dtype=torch.long)


MODELS = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU()),
        lambda: torch.ones(3, 6),
    ),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)
        ),
        lambda: torch.ones(2, 1, 8, 8),
    ),
    "lstm": (lambda: nn.LSTM(3, 5, 2, bidirectional=True), lambda: torch.ones(7, 2, 3)),
    "transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        lambda: (torch.ones(2, 5, 8), torch.ones(2, 4, 8)),
    ),
    "shared": (Shared, lambda: {"left": words(2, 5), "right": words(2, 3)}),
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()),
        lambda: torch.ones(3, 9),
    ),
}
with_model = pytest.mark.parametrize("name", MODELS)


@with_model
@pytest.mark.parametrize("depth", [None, 0, 1, 2])
def test_counts_are_those_of_torch(name: str, depth: int | None) -> None:
    make, inputs = MODELS[name]
    model = make()
    summary = summarize(model, inputs(), depth)
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    frozen = summarize(model, inputs(), depth)
    total = sum(one.numel() for one in model.parameters())
    assert summary.parameters == frozen.parameters == total
    assert summary.trainable == total
    assert frozen.trainable == total - first.numel()
    tensors = [*model.parameters(), *model.buffers()]
    assert summary.bytes == sum(one.nbytes for one in tensors)
    assert f"{total:,} parameters" in str(summary)


def state(model: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@with_model
def test_the_model_is_left_as_it_was(name: str) -> None:
    make, inputs = MODELS[name]
    model = make()
    summarize(model, inputs())  # a lazy layer is made by its first batch
    next(model.children(), model).eval()
    modes = [layer.training for layer in model.modules()]
    before, generator = state(model), torch.get_rng_state()
    summarize(model, inputs())
    assert [layer.training for layer in model.modules()] == modes
    after = state(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(generator, torch.get_rng_state())
    for layer in model.modules():
        assert not layer._forward_hooks and not layer._forward_pre_hooks
    assert all(one.grad is None for one in model.parameters())


def test_shapes_of_every_call() -> None:
    rows = {
        row.name: row for row in summarize(Shared(), (words(2, 5), words(2, 3))).rows
    }
    assert rows["mix"].outputs == ("(2, 5, 4)", "(2, 3, 4)")
    assert rows["mix"].output.endswith("×2")
    assert rows["idle"].output == "not called"
    assert (rows["head"].parameters, rows["head"].new) == (44, 0)
    assert rows["(model)"].parameters == 1


def test_several_outputs() -> None:
    row = summarize(nn.LSTM(3, 5), torch.ones(7, 2, 3)).rows[0]
    assert row.output == "[(7, 2, 5), [(1, 2, 5), (1, 2, 5)]]"


@pytest.mark.parametrize(
    ("model", "inputs", "layer"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), torch.ones(2, 4), "`1`"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3))), torch.ones(2, 4), "`0.0`"),
        (nn.Sequential(nn.Embedding(5, 2)), torch.tensor([7]), "`0`"),
    ],
)
def test_the_layer_of_a_wrong_shape_is_named(
    model: Any, inputs: Any, layer: str
) -> None:
    with pytest.raises((RuntimeError, IndexError, TypeError)) as caught:
        summarize(model, inputs)
    assert f"in layer {layer}" in " ".join(caught.value.__notes__)
    assert model.training
    for one in model.modules():
        assert not one._forward_hooks and not one._forward_pre_hooks
