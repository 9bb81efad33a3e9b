"""Loaders: the same batches, however they are put together."""

from types import SimpleNamespace
from typing import Any

import pytest
from training import TensorDataset, X, Y, torch

from litml.train import make_loader
from litml.train.batches import Rows, can_pin


def read(loader: Any) -> list[list[Any]]:
    return [list(batch) for batch in loader]


def same(one: list[list[Any]], other: list[list[Any]]) -> bool:
    return len(one) == len(other) and all(
        len(a) == len(b) and all(map(torch.equal, a, b))
        for a, b in zip(one, other, strict=True)
    )


class OneByOne(TensorDataset):
    """What `make_loader` knows nothing of: each sample is asked for by itself."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_tensors_in_memory_make_the_same_batches(workers: int, drop_last: bool) -> None:
    tensors = X, Y, torch.arange(44)
    loaders = [
        make_loader(data, 8, shuffle=True, seed=3, workers=workers, drop_last=drop_last)
        for data in (TensorDataset(*tensors), OneByOne(*tensors))
    ]
    for _ in range(2):  # epochs, in another order each
        ours, theirs = map(read, loaders)
        assert same(ours, theirs)
    assert {type(batch) for loader in loaders for batch in loader} == {list}


def test_who_has_a_way_of_their_own_is_asked() -> None:
    """A subclass may change samples, and `collate` is given samples."""

    class Turned(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            x, y = super().__getitem__(index)
            return -x, y

    (x, _), *_ = make_loader(Turned(X, Y), 8)
    assert torch.equal(x, -X[:8])
    loader = make_loader(TensorDataset(X, Y), 8, collate=len)
    assert list(loader) == [8, 8, 8, 8, 8, 4]


def test_what_is_on_a_device_already_is_not_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    assert can_pin(TensorDataset(X, Y)) and can_pin([1, 2])  # type: ignore[arg-type]
    forked = SimpleNamespace(_is_in_bad_fork=lambda: True)  # after CUDA was used
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_device_module", lambda: forked)
        assert not can_pin([1, 2])  # type: ignore[arg-type]
    away = Rows(X.to("meta"), Y.to("meta"))
    assert not can_pin(away)
    assert [one.shape for one in away.__getitems__([1, 2])] == [(2, 6), (2, 1)]
