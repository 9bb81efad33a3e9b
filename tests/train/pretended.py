"""A device that is only pretended, for trainings that cannot have a real one.

Its tensors lie on the processor and are computed there, by the same code, so that a
training can be compared with one on the processor to the bit. But they are of another
device to torch, and refuse to be mixed; they draw from a generator of their own; and
whatever would make the processor wait for a real device is noted. What a real device
does by itself, its kernels and its streams, is not rehearsed by this.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "gpu"
DEVICE = torch.device("cpu")  # where it lies
WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "unique"}
DRAWS = {"native_dropout", "bernoulli_", "multinomial", "randn", "rand", "randint"}
COPIES = {"copy_", "_to_copy"}
waits: list[str] = []  # what the processor had to wait for


class Module(_DummyBackendModule):
    """What `torch.cuda` is for CUDA."""

    state = torch.Generator().get_state()

    def manual_seed_all(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed + 1).get_state()

    def get_rng_state(self, device: object = NAME) -> Tensor:
        assert str(device) in (NAME, f"{NAME}:0")
        return self.state.clone()

    def set_rng_state(self, state: Tensor, device: object = NAME) -> None:
        assert type(state) is Tensor and state.device == DEVICE
        self.state = state.clone()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def draw(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Draw from its generator, and leave that of the processor alone."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.state)
        drawn = operation(*args, **kwargs)
        self.state = torch.get_rng_state()
        torch.set_rng_state(before)
        return drawn


class Far(Tensor):
    """A tensor on the pretended device."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "Far":
        assert type(near) is Tensor
        make: Any = Tensor._make_wrapper_subclass  # type: ignore[attr-defined]
        made: Far = make(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
        )
        made.near = near.detach()
        return made

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operation, args, kwargs or {})

    # What reads memory goes past `__torch_dispatch__`.
    def tolist(self) -> Any:
        waits.append("tolist")
        return self.near.tolist()

    def data_ptr(self) -> int:
        return self.near.data_ptr()

    def untyped_storage(self) -> Any:
        return self.near.untyped_storage()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Far":
        made = Far(self.near.clone())
        made.requires_grad_(self.requires_grad)
        made._is_param = getattr(self, "_is_param", False)  # type: ignore[attr-defined]
        memo[id(self)] = made
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Far({self.near})"


def compute(operation: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the processor, and return what then lies on the device."""
    name = operation.overloadpacket.__name__
    flat, form = tree_flatten((args, kwargs))
    far = any(isinstance(one, Far) for one in flat)
    target = torch.device(kwargs["device"]).type if kwargs.get("device") else ""
    if name in ("is_pinned", "_pin_memory", "pin_memory"):
        assert not far, "only tensors of the processor can be pinned"
        return name != "is_pinned" and args[0]
    note_wait(name, args, kwargs, far, target)
    near = [one.near if isinstance(one, Far) else one for one in flat]
    near_args, near_kwargs = tree_unflatten(near, form)
    if target == NAME:
        near_kwargs["device"] = DEVICE
    stays = isinstance(args[0], Far) if name == "copy_" else far and target != "cpu"
    if not stays and target != NAME:
        return operation(*near_args, **near_kwargs)
    refuse_mixed(name, flat, far)
    if name in DRAWS:
        found = MODULE.draw(operation, *near_args, **near_kwargs)
    else:
        found = operation(*near_args, **near_kwargs)
    known = {id(n): one for n, one in zip(near, flat, strict=True) if n is not one}

    def place(one: Any) -> Any:
        is_known = not isinstance(one, Tensor) or id(one) in known
        return known.get(id(one), one) if is_known else Far(one)

    return tree_map(place, found)


def refuse_mixed(name: str, flat: list[Any], far: bool) -> None:
    """Raise where torch does: elsewhere lies a number that is read, or an index."""
    first = flat[:1] if name.endswith("_") else []  # that is changed, then
    tensors = [*first, *(one for one in flat if isinstance(one, Tensor) and one.ndim)]
    is_mixed = far and not all(isinstance(one, Far) for one in tensors)
    if is_mixed and name not in COPIES and "index" not in name:
        raise RuntimeError(f"{name}: tensors on {NAME} and on the processor")


def note_wait(name: str, args: Any, kwargs: Any, far: bool, target: str) -> None:
    """Note what a real device would be waited for."""
    is_free = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
    crosses = target == ("cpu" if far else NAME)
    if name == "copy_":
        crosses = isinstance(args[0], Far) != isinstance(args[1], Far)
    if (far and name in WAITS) or (name in COPIES and crosses and not is_free):
        waits.append(name)


class Pretended(TorchDispatchMode):
    """Let tensors be made on the device."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operation, args, kwargs or {})


def cast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute in half precision, as a device does within `torch.autocast`."""
    dtype = torch.get_autocast_dtype(NAME)
    given = (x, weight) if bias is None else (x, weight, bias)
    key = torch._C.DispatchKey.AutocastPrivateUse1  # type: ignore[attr-defined]
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
        return linear(*(one.to(dtype) for one in given))


MODULE = Module()
_setup_privateuseone_for_python_backend(NAME, MODULE)
torch.__future__.set_swap_module_params_on_conversion(True)  # optimizers keep theirs
ALL, ATEN = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
ALL.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
ATEN.impl("linear", cast_linear, "AutocastPrivateUse1")
