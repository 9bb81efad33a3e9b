"""Throughput on a GPU, and whether a step waits for it: python bench_gpu.py.

Without a GPU it says so and does nothing.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from litml.train import Run, Trainer

STEPS, ROUNDS, BATCH, LENGTH, WIDTH = 60, 9, 16, 256, 512
LOSS = nn.functional.cross_entropy
Data = list[tuple[Tensor, Tensor]]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        WIDTH, 8, 4 * WIDTH, dropout=0.0, batch_first=True
    )
    body = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return nn.Sequential(body, nn.Flatten(0, 1), nn.Linear(WIDTH, 100))


def make_data() -> Data:
    x = torch.randn(BATCH, LENGTH, WIDTH).pin_memory()
    y = torch.randint(100, (BATCH * LENGTH,)).pin_memory()
    return [(x, y)] * STEPS


def by_hand(data: Data) -> Callable[[], None]:
    """An epoch in bfloat16, with clipping and the mean loss."""
    model = make_model().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def epoch() -> None:
        total = torch.zeros((), dtype=torch.float64, device="cuda")
        for x, y in data:
            x, y = x.cuda(non_blocking=True), y.cuda(non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = LOSS(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total.add_(loss.detach(), alpha=len(x))
        total.item()

    return epoch


class Refuse:
    """Make whatever waits for the device within a step an error."""

    def on_step_start(self, run: Run) -> None:
        torch.cuda.set_sync_debug_mode("error" if run.step else "default")

    def on_step_end(self, run: Run) -> None:
        torch.cuda.set_sync_debug_mode("default")


def litml(data: Data, *callbacks: object) -> Callable[[], None]:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    trainer = Trainer(
        model, LOSS, optimizer, callbacks=callbacks, device="cuda",
        precision="bfloat16", clip=1.0, seed=None,
    )  # fmt: skip
    return lambda: trainer.fit(data) and None


def measure(epoch: Callable[[], None]) -> float:
    begun = time.perf_counter()
    epoch()
    return STEPS * BATCH * LENGTH / (time.perf_counter() - begun)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no CUDA device here")
    data = make_data()
    litml(data, Refuse())()
    print("no step waits for the device")
    ours, theirs = litml(data), by_hand(data)
    measure(ours), measure(theirs)
    pairs = [(measure(ours), measure(theirs)) for _ in range(ROUNDS)]
    share = median(one / other for one, other in pairs)
    print(f"{median(one for one, _ in pairs):,.0f} tokens a second")
    print(f"{share:.1%} of the hand-written loop's")


if __name__ == "__main__":
    main()
