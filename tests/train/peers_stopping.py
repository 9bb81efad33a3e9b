"""Ask Keras and Lightning when they stop and what they keep, on the same curves.

Not a test: neither is installed where the tests run. With both installed beside the
same torch, `python tests/train/peers_stopping.py` writes `peers_stopping.json`, which
`test_stopping.py` compares litml with. Both are asked by a real training: each epoch
sets the one weight of a model to its number, so the weight tells the epoch.
"""

import itertools
import json
import logging
import math
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
warnings.filterwarnings("ignore")

import keras  # noqa: E402
import lightning  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint  # noqa: E402

NAN, INF = math.nan, math.inf
CURVES = {
    "falls": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2],
    "falls, then rises": [0.9, 0.6, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65],
    "rises": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    "flat": [0.5] * 8,
    "falls slowly": [0.9, 0.88, 0.86, 0.84, 0.82, 0.8, 0.78, 0.76],
    "stands, then falls": [0.9, 0.9, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3],
    "saw": [0.8, 0.9, 0.7, 0.8, 0.6, 0.7, 0.5, 0.6],
    "late best": [0.5, 0.6, 0.7, 0.4, 0.6, 0.7, 0.3, 0.8],
    "below zero": [-0.1, -0.5, -0.45, -0.55, -0.5, -0.9, -0.8, -0.7],
    "NaN on the way": [0.9, 0.8, NAN, 0.7, 0.6, 0.5, 0.4, 0.3],
    "NaN at first": [NAN, 0.8, 0.7, 0.6, 0.5, 0.6, 0.7, 0.8],
    "infinite at first": [INF, 0.8, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8],
    "NaN at the end": [0.5, 0.4, 0.3, 0.35, NAN, NAN, NAN, NAN],
}
OPTIONS = [
    {"mode": mode, "patience": patience, "min_delta": min_delta, **more}
    for mode, patience, min_delta, more in itertools.product(
        ("min", "max"),
        (0, 1, 2, 3),
        (0.0, 0.05),
        ({}, {"baseline": 0.65}, {"start_from_epoch": 2}),
    )
]


def ask_keras(curve: list[float], options: dict[str, Any]) -> dict[str, int]:
    """Return the number of epochs run, and the epoch whose weights are restored."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer="sgd", loss="mse")
    done = []

    class Follow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_loss"] = curve[epoch]
            self.model.set_weights([np.array([[float(epoch)]])])
            done.append(epoch)

    stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", restore_best_weights=True, **options
    )
    ones = np.ones((1, 1))
    follow = [Follow(), stopping]
    model.fit(ones, ones, epochs=len(curve), callbacks=follow, verbose=0)
    return {"epochs": len(done), "restored": int(model.get_weights()[0][0, 0])}


class Module(lightning.LightningModule):
    def __init__(self, curve: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.curve, self.done = curve, 0

    def training_step(self, batch: Any, index: int) -> Any:
        return self.weight.sum() * 0

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", torch.tensor(self.curve[self.current_epoch]))

    def on_train_epoch_end(self) -> None:
        self.done += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def ask_lightning(curve: list[float], options: dict[str, Any]) -> dict[str, int]:
    """Return the number of epochs run, and the epoch of the best checkpoint."""
    loader = torch.utils.data.DataLoader(torch.zeros(1, 1))
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(
            folder, "{epoch}", monitor="val_loss", mode=options["mode"]
        )
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=len(curve),
            callbacks=[EarlyStopping(monitor="val_loss", **options), best],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        module = Module(curve)
        trainer.fit(module, loader, loader)
        name = Path(best.best_model_path).stem
    return {"epochs": module.done, "kept": int(name.removeprefix("epoch="))}


def main() -> None:
    """Write the table."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    cases = []
    for (name, curve), options in itertools.product(CURVES.items(), OPTIONS):
        case = {"curve": name, "options": options, "keras": ask_keras(curve, options)}
        if not options.keys() & {"baseline", "start_from_epoch"}:
            case["lightning"] = ask_lightning(curve, options)
        cases.append(case)
    versions = {
        "keras": keras.__version__,
        "lightning": lightning.__version__,
        "torch": torch.__version__.partition("+")[0],
    }
    lines = ",\n".join(f"  {json.dumps(case)}" for case in cases)
    head = f'"versions": {json.dumps(versions)},\n"curves": {json.dumps(CURVES)}'
    path = Path(__file__).with_suffix(".json")
    path.write_text(f'{{\n{head},\n"cases": [\n{lines}\n]\n}}\n', "utf-8")


if __name__ == "__main__":
    main()
