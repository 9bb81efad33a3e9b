"""What the loop costs beyond a hand-written one, in one process, in turns.

The model is one tiny layer, so that noise is small: the cost of a loop does not depend
on the model.
"""

import time
from statistics import quantiles

import torch
from torch import Tensor, nn

from litml.train import Run, Trainer

STEPS, ROUNDS = 200, 200
LOSS = nn.functional.mse_loss
Data = list[tuple[Tensor, Tensor]]


def make_model() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), 1e-4)


class ByHand:
    """Forward, backward, step, and the mean loss of the epoch on the device."""

    def __init__(self) -> None:
        self.model, self.optimizer = make_model()

    def run(self, data: Data) -> float:
        device, count = torch.device("cpu"), 0
        total = torch.zeros((), dtype=torch.float64)
        begun = time.process_time()
        for x, y in data:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            loss = LOSS(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            total.add_(loss.detach(), alpha=len(x))
            count += len(x)
        return time.process_time() - begun


class Litml:
    """The same by a `Trainer` with one callback, which reads the clock."""

    def __init__(self) -> None:
        model, optimizer = make_model()
        self.trainer = Trainer(
            model, LOSS, optimizer, callbacks=[self], device="cpu", seed=None
        )

    def on_epoch_start(self, run: Run) -> None:
        self.begun = time.process_time()

    def on_step_end(self, run: Run) -> None:
        if run.step == STEPS:
            self.seconds = time.process_time() - self.begun

    def run(self, data: Data) -> float:
        self.trainer.fit(data)
        return self.seconds


def main() -> None:
    torch.set_num_threads(1)
    data = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(STEPS)]
    hand, ours = ByHand(), Litml()
    pairs = [(hand.run(data), ours.run(data)) for _ in range(ROUNDS)]
    beyond = [(one - other) / STEPS * 1e6 for other, one in pairs]
    low, middle, high = quantiles(beyond, n=4)
    best = min(one for _, one in pairs) - min(one for one, _ in pairs)
    print(f"µs a step beyond the hand-written loop: {middle:.0f} (median), ", end="")
    print(f"{low:.0f} to {high:.0f} (half of the rounds), ", end="")
    print(f"{best / STEPS * 1e6:.0f} (best round to best round)")


if __name__ == "__main__":
    main()
