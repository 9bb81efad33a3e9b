"""The same training in many loops; each takes a model, data and a gate of batches."""

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gate import Gate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 10_000  # the gate decides when it is over


@dataclass(frozen=True, slots=True)
class Case:
    """A multi-layer perceptron on random data."""

    width: int
    depth: int
    batch: int


CASES = {"tiny": Case(64, 3, 32), "small": Case(384, 3, 256)}
FEATURES, CLASSES = 32, 10


def make_layers(case: Case) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(FEATURES, case.width), nn.ReLU()]
    for _ in range(case.depth - 2):
        layers += [nn.Linear(case.width, case.width), nn.ReLU()]
    return [*layers, nn.Linear(case.width, CLASSES)]


def make_model(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*make_layers(case))


def make_data(case: Case) -> TensorDataset:
    count = case.batch * (150 if case.batch < 100 else 60)
    return TensorDataset(torch.randn(count, FEATURES), torch.randint(CLASSES, (count,)))


def make_loader(case: Case) -> DataLoader[Any]:
    data = make_data(case)
    return DataLoader(data, batch_sampler=Gate(len(data), case.batch))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 1e-4)


LOSS = nn.functional.cross_entropy


def by_hand(case: Case) -> None:
    """Forward, backward, step, and the mean loss of the epoch on the device."""
    model, loader = make_model(case), make_loader(case)
    optimizer = make_optimizer(model)
    device, history = torch.device("cpu"), []
    for _ in range(EPOCHS):
        model.train()
        total, count = torch.zeros((), dtype=torch.float64), 0
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            loss = LOSS(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total.add_(loss.detach(), alpha=len(x))
            count += len(x)
        history.append(float(total / count))


def litml(case: Case, *callbacks: object) -> None:
    from litml.train import Trainer

    model = make_model(case)
    trainer = Trainer(
        model, LOSS, make_optimizer(model), callbacks=callbacks, device="cpu"
    )
    trainer.fit(make_loader(case), epochs=EPOCHS)


def litml_callbacks(case: Case) -> None:
    from litml.train import CsvLog, EarlyStopping, Progress, Run

    class Count:
        steps = 0

        def on_step_start(self, run: Run) -> None:
            self.steps += 1

        def on_gradients(self, run: Run) -> None:
            self.steps += 1

        def on_step_end(self, run: Run) -> None:
            self.steps += 1

    stopping = EarlyStopping("train_loss", patience=EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        log = CsvLog(f"{folder}/log.csv")
        litml(case, Count(), stopping, log, Progress(stream=io.StringIO()))


def ignite(case: Case) -> None:
    from ignite.engine import create_supervised_trainer
    from ignite.metrics import Average

    model = make_model(case)
    engine = create_supervised_trainer(
        model, make_optimizer(model), LOSS, output_transform=lambda x, y, p, loss: loss
    )
    Average().attach(engine, "loss")
    engine.run(make_loader(case), max_epochs=EPOCHS)


def skorch(case: Case) -> None:
    from skorch import NeuralNetClassifier

    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*make_layers(case))

    def load(data: Any, **_: Any) -> DataLoader[Any]:
        return DataLoader(data, batch_sampler=gate)

    data = make_data(case)
    gate = Gate(len(data), case.batch)
    net = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=1e-4,
        max_epochs=EPOCHS, iterator_train=load, train_split=None, verbose=0,
    )  # fmt: skip
    net.fit(data.tensors[0], data.tensors[1])


def accelerate(case: Case) -> None:
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), make_model(case)
    model, optimizer, loader = accelerator.prepare(
        model, make_optimizer(model), make_loader(case)
    )
    for _ in range(EPOCHS):
        total = torch.zeros((), dtype=torch.float64)
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = LOSS(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            total.add_(loss.detach(), alpha=len(x))


def fabric(case: Case) -> None:
    from lightning.fabric import Fabric

    one = Fabric(accelerator="cpu", devices=1)
    model = make_model(case)
    model, optimizer = one.setup(model, make_optimizer(model))
    loader = one.setup_dataloaders(make_loader(case))
    for _ in range(EPOCHS):
        total = torch.zeros((), dtype=torch.float64)
        for x, y in loader:
            loss = LOSS(model(x), y)
            one.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total.add_(loss.detach(), alpha=len(x))


def lightning(case: Case, is_logging: bool = False) -> None:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model(case)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss = LOSS(self.net(batch[0]), batch[1])
            if is_logging:
                self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(self)

    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=EPOCHS, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), make_loader(case))


def lightning_logging(case: Case) -> None:
    lightning(case, is_logging=True)


def fastai(case: Case) -> None:
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner, OptimWrapper

    loader = make_loader(case)
    learner = Learner(
        DataLoaders(loader, loader), make_model(case), CrossEntropyLossFlat(),
        opt_func=lambda p, **_: OptimWrapper(p, torch.optim.AdamW),
    )  # fmt: skip
    learner.validate = lambda *_, **__: None
    learner._do_epoch_validate = lambda *_, **__: None
    learner.logger = lambda *_: None
    learner.fit(EPOCHS, 1e-4)


def hugging_face(case: Case) -> None:
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model(case)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            output = self.net(x)
            return {"loss": LOSS(output, labels), "logits": output}

    def collate(rows: list[Any]) -> dict[str, Tensor]:
        x, y = zip(*rows, strict=True)
        return {"x": torch.stack(x), "labels": torch.stack(y)}

    class Timed(Trainer):
        def get_train_dataloader(self) -> DataLoader[Any]:
            gate = Gate(len(data), case.batch)
            loader = DataLoader(data, batch_sampler=gate, collate_fn=collate)
            return self.accelerator.prepare(loader)

    data = make_data(case)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=EPOCHS, per_device_train_batch_size=case.batch,
            report_to=[], logging_strategy="no", save_strategy="no", use_cpu=True,
            disable_tqdm=True, max_grad_norm=0.0, lr_scheduler_type="constant",
            learning_rate=1e-4, remove_unused_columns=False,
        )  # fmt: skip
        Timed(Model(), arguments, train_dataset=data).train()


def keras(case: Case) -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k

    dense = [k.layers.Dense(case.width, "relu") for _ in range(case.depth - 1)]
    model = k.Sequential([k.Input((FEATURES,)), *dense, k.layers.Dense(CLASSES)])
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.AdamW(1e-4), loss)
    model.fit(make_loader(case), epochs=EPOCHS, verbose=0)


def keras_torch(case: Case) -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k

    body = k.layers.TorchModuleWrapper(make_model(case))
    model = k.Sequential([k.Input((FEATURES,)), body])
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.AdamW(1e-4), loss)
    model.fit(make_loader(case), epochs=EPOCHS, verbose=0)


LOOPS: dict[str, Callable[[Case], None]] = {
    "by hand": by_hand,
    "litml": litml,
    "litml, 4 callbacks": litml_callbacks,
    "ignite": ignite,
    "skorch": skorch,
    "fabric": fabric,
    "accelerate": accelerate,
    "lightning": lightning,
    "lightning, logging": lightning_logging,
    "fastai": fastai,
    "hugging face": hugging_face,
    "keras": keras,
    "keras, torch model": keras_torch,
}
