"""Freezing and parameter groups, seen by what an optimizer does with them."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="litml.train needs the extra litml[train]")

from torch import nn  # noqa: E402

from litml.train.groups import (  # noqa: E402
    GroupError,
    fade_rates,
    find_parameters,
    freeze,
    make_groups,
    unfreeze,
)


def make_model() -> Any:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 2))


def changed(model: Any, optimizer: Any, steps: int = 1) -> set[str]:
    """The parameters that training changes."""
    before = {name: one.clone() for name, one in model.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3, 2)).square().sum().backward()
        optimizer.step()
    return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}


def test_what_is_frozen_does_not_change() -> None:
    model = make_model()
    names = {name for name, _ in model.named_parameters()}
    frozen = freeze(model, "0", "2.weight")
    assert frozen == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "2.weight"]
    optimizer = torch.optim.AdamW(make_groups(model, 0.1))
    assert changed(model, optimizer) == names - set(frozen)
    assert all(model.get_parameter(name).grad is None for name in frozen)
    unfreeze(model, "*")
    assert changed(model, torch.optim.AdamW(make_groups(model, 0.1))) == names


def test_thawed_later_when_the_groups_were_made_before() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(make_groups(model, 0.1, decay=0.0))
    freeze(model, "0")
    assert not {n for n in changed(model, optimizer) if n.startswith("0.")}
    unfreeze(model, "0.0")
    assert {n for n in changed(model, optimizer) if n.startswith("0.")} == {
        "0.0.weight",
        "0.0.bias",
    }


def test_every_trained_parameter_is_in_one_group() -> None:
    model = make_model()
    model[3].weight.requires_grad_(False)
    groups = make_groups(model, 0.1, rates={"*": 0.2, "1": 0.3}, no_decay=["1.weight"])
    members = [id(one) for group in groups for one in group["params"]]
    assert sorted(members) == sorted(
        id(one) for one in model.parameters() if one.requires_grad
    )


def test_norms_and_biases_have_no_decay() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(make_groups(model, 0.5, decay=0.5))
    with torch.no_grad():
        for one in model.parameters():
            one.fill_(1.0)
            one.grad = torch.zeros_like(one)
    optimizer.step()  # without gradients, AdamW only decays
    for name, one in model.named_parameters():
        is_matrix = name in ("0.0.weight", "1.weight", "3.weight")
        expected = 1 - 0.5 * 0.5 if is_matrix else 1.0
        assert one.flatten()[0].item() == expected, name


def test_rates_move_parameters_in_proportion() -> None:
    model = make_model()
    rates = fade_rates(["0", "1", "2", "3"], 0.8, 0.5)
    assert rates == {"0": 0.1, "1": 0.2, "2": 0.4, "3": 0.8}
    optimizer = torch.optim.SGD(make_groups(model, 9.0, decay=0.0, rates=rates))
    before = {name: one.clone() for name, one in model.named_parameters()}
    for one in model.parameters():
        one.grad = torch.ones_like(one)
    optimizer.step()
    for name, one in model.named_parameters():
        moved = (before[name] - one).mean().item()
        assert moved == pytest.approx(rates[name[0]], rel=1e-5)


def test_the_last_pattern_wins() -> None:
    model = make_model()
    groups = make_groups(model, 0.1, rates={"*": 0.2, "1": 0.3, "1.bias": 0.4})
    rate = {id(one): group["lr"] for group in groups for one in group["params"]}
    found = {name: rate[id(one)] for name, one in model.named_parameters()}
    assert (found["1.weight"], found["1.bias"], found["3.bias"]) == (0.3, 0.4, 0.2)


def test_tied_weights_are_one_parameter() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    assert list(find_parameters(model, "0")) == ["0.weight"]
    assert len(make_groups(model, 0.1)[0]["params"]) == 1


@pytest.mark.parametrize("pattern", ["4", "1.wieght", "0.0.weight.x", "", "Linear"])
def test_a_pattern_that_means_nothing_is_an_error(pattern: str) -> None:
    model = make_model()
    for use in (
        lambda: freeze(model, "0", pattern),
        lambda: unfreeze(model, pattern),
        lambda: make_groups(model, 0.1, rates={pattern: 0.2}),
        lambda: make_groups(model, 0.1, no_decay=[pattern]),
    ):
        with pytest.raises(GroupError, match="matches no parameter"):
            use()
    assert all(one.requires_grad for one in model.parameters()), "none was frozen"


def test_a_close_name_is_suggested_and_numbers_are_whole() -> None:
    with pytest.raises(GroupError, match=r"did you mean `1\.weight`"):
        freeze(make_model(), "1.wieght")
    eleven = nn.Sequential(*(nn.Linear(1, 1) for _ in range(11)))
    assert freeze(eleven, "1") == ["1.weight", "1.bias"]


def test_nothing_left_to_train() -> None:
    model = make_model()
    freeze(model, "*")
    with pytest.raises(GroupError, match="all parameters are frozen"):
        make_groups(model, 0.1)
    with pytest.raises(GroupError, match="share"):
        fade_rates(["0"], 0.1, 0)
