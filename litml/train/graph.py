# Exported from nbs/train/17_graph.ipynb. Edit either side, then run `litml sync`.
"""Named layers, called on tensors that have no values yet, describe a network with
several inputs and outputs; a wrong shape is an error at the line that wrote it.
"""

import itertools
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from litml.train.device import TrainError, rebuild

__all__ = [
    "GraphError",
    "STAND_INS",
    "stand_in",
    "is_prime",
    "name_size",
    "name_sizes",
    "Call",
    "SymbolicTensor",
    "show_sizes",
    "record",
    "forget",
    "mark",
    "make_item",
    "explain",
    "replace",
    "find_all",
    "find_symbols",
    "refuse_change",
    "refuse_values",
    "is_symbolic",
    "function_name",
    "Input",
    "check_name",
    "Layer",
    "fill_lazy",
    "build_network",
    "find_ends",
    "find_calls",
    "add_node",
    "check_inputs",
    "check_layers",
    "draw_network",
    "draw_node",
    "nodes_before",
    "show_index",
]


# %% GraphError
class GraphError(TrainError):
    """A network cannot be built this way."""


# ## Sizes that are not known
# %% stand_in
STAND_INS = {"batch": 197}


def stand_in(name: str) -> int:
    """Return the number that stands for a size while nobody knows it."""
    if name not in STAND_INS:
        numbers = itertools.count(max(STAND_INS.values()) + 1)
        STAND_INS[name] = next(number for number in numbers if is_prime(number))
    return STAND_INS[name]


def is_prime(number: int) -> bool:
    """Has it no divisor?"""
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def name_size(size: int) -> int | str:
    """Return a size, or the name it stands for: `batch`, `4*batch`."""
    for name, number in STAND_INS.items():
        if size and size % number == 0:
            rest = name_size(size // number)
            return name if rest == 1 else f"{rest}*{name}"
    return size


def name_sizes(shape: Iterable[int]) -> tuple[int | str, ...]:
    """Return the sizes of a shape, the unknown ones by name."""
    return tuple(name_size(size) for size in shape)


# ## A tensor without values
# %% Call
@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """How a value is made: from what, and by what it was called with.

    The target is the name of an input, a layer, or a function of tensors.
    """

    target: "str | Layer | Callable[..., Any]"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int | str, ...] | None = None
    number: int = field(default_factory=itertools.count().__next__)


class SymbolicTensor(Tensor):
    """A tensor that has a shape, a type and an origin, and no values."""

    call: Call

    @property  # torch declares an attribute
    def shape(self) -> Any:  # type: ignore[override]
        """The sizes; what is only known when the network runs is a name."""
        with torch._C.DisableTorchFunctionSubclass():
            return name_sizes(self.size())

    # torch declares one without a type for the argument.
    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({show_sizes(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function on shapes alone, and note that it was called."""
        kwargs = dict(kwargs or {})
        name = function_name(function)
        refuse_change(name, kwargs)
        refuse_values(name, (*args, *kwargs.values()))
        return record(function, name, args, kwargs, function)


def show_sizes(shape: Iterable[int | str]) -> str:
    """Return a shape as people write it: `(batch, 3)`."""
    return f"({', '.join(map(str, shape))})"


# %% record
def record(
    target: "Layer | Callable[..., Any]",
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    run: Callable[..., Any],
) -> Any:
    """Return what `run` makes of the arguments, with a note in each tensor."""
    given = (args, kwargs)
    try:
        with torch._C.DisableTorchFunctionSubclass(), torch.device("meta"):
            values, named = replace(given, SymbolicTensor, forget)
            result = run(*values, **named)
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as e:
        shapes = ", ".join(show_sizes(one.shape) for one in find_symbols(given))
        raise GraphError(f"{name} does not fit {shapes}", hint=explain(e)) from e
    args, kwargs = replace(given, SymbolicTensor, lambda one: one.call)
    whole = isinstance(result, Tensor)
    shape = name_sizes(result.size()) if whole else None
    return mark(result, Call(target, args, kwargs, shape), name)


def forget(symbol: SymbolicTensor) -> Tensor:
    """Return the tensor alone: torch's own code asks for shapes, and means numbers."""
    return symbol.as_subclass(Tensor)


def mark(result: Any, call: Call, name: str) -> Any:
    """Return a result whose tensors, and those inside of it, know their origin."""
    if isinstance(result, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            # An alias: some functions return their argument, which has an origin.
            tensor = result.detach().as_subclass(SymbolicTensor)
        tensor.call = call
        return tensor
    if isinstance(result, torch.Size):
        return name_sizes(result)
    sizes = (result,) if isinstance(result, int) else ()
    if isinstance(result, tuple | list):
        sizes = (len(result),)
        parts = enumerate(result)
        items = [mark(part, make_item(call, i, part), name) for i, part in parts]
    if any(isinstance(name_size(size), str) for size in sizes):
        text = f"{name} asks for a size that is known when the network runs"
        raise GraphError(text, hint="-1, flatten and unflatten do without it")
    if isinstance(result, Mapping):
        return {
            key: mark(part, make_item(call, key, part), name)
            for key, part in result.items()
        }
    return rebuild(result, items) if isinstance(result, tuple | list) else result


def make_item(call: Call, key: object, part: object) -> Call:
    """Return the note that a value is a part of what a call gave."""
    shape = name_sizes(part.size()) if isinstance(part, Tensor) else None
    return Call(operator.getitem, (call, key), {}, shape)


def explain(error: Exception) -> str:
    """Return torch's words, with names for the numbers that stand for them."""
    text = str(error).split("\n")[0].removesuffix(".")
    for name, number in STAND_INS.items():
        text = re.sub(rf"(?<!\d){number}(?!\d)", name, text)
    if "meta" in text:  # the device of tensors without values
        return f"no values are known here, and a module's tensors are buffers ({text})"
    return f"torch says: {text}"


# %% replace
def replace(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments, with what is of a kind changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return rebuild(value, [replace(one, kind, change) for one in value])
    if isinstance(value, Mapping):
        return {key: replace(one, kind, change) for key, one in value.items()}
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return slice(*(replace(one, kind, change) for one in ends))
    return value


def find_all(value: Any, kind: type) -> list[Any]:
    """Return what is of a kind in nested arguments."""
    found: list[Any] = []
    replace(value, kind, found.append)
    return found


def find_symbols(value: Any) -> list[SymbolicTensor]:
    """Return the symbolic tensors in nested arguments."""
    return find_all(value, SymbolicTensor)


# %% refuse_change
def refuse_change(name: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse `x += y`, `x[0] = y`, `out=x`."""
    in_place = name.endswith("_") and not name.endswith("__")
    if in_place or name == "__setitem__" or kwargs.get("out") is not None:
        text = f"{name} changes a tensor in place"
        raise GraphError(text, hint="write x = x + y instead of x += y")


def refuse_values(name: str, args: Iterable[Any]) -> None:
    """Refuse tensors that have values: they must be in a layer."""
    real = [one for one in find_all(args, Tensor) if not is_symbolic(one)]
    if real:
        text = f"{name} is called with a tensor that has values and is in no layer"
        raise GraphError(text, hint='name its module: Layer("scale", module)(x)')


def is_symbolic(value: object) -> bool:
    """Is it a tensor of this chapter?"""
    return isinstance(value, SymbolicTensor)


def function_name(function: Callable[..., Any]) -> str:
    """Return what a function of tensors is called; an attribute is read by one too."""
    name: str = function.__name__
    if name == "__get__":  # a method of the attribute's descriptor
        owner: Any = getattr(function, "__self__", None)
        name = owner.__name__
    return name


# ## Inputs
# %% Input
class Input(SymbolicTensor):
    """What a network is given: `Input("image", 1, 28, 28)`."""

    def __new__(
        cls, name: str, *sizes: int | str, dtype: torch.dtype = torch.float32
    ) -> "Input":
        """Return a tensor with a name, and sizes after that of the batch."""
        check_name(name, "input")
        unknown = ("batch", *sizes)
        numbers = [stand_in(one) if isinstance(one, str) else one for one in unknown]
        tensor = torch.empty(numbers, dtype=dtype, device="meta").as_subclass(cls)
        tensor.call = Call(name, shape=unknown)
        return tensor


def check_name(name: str, what: str) -> None:
    """Refuse a name that cannot be an attribute or an argument."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise GraphError(f"{name!r} is no name of Python, so no name of an {what}")
    if what == "layer" and (hasattr(fx.GraphModule, name) or name == "training"):
        raise GraphError(f"every module has a {name!r}: a layer needs another name")


# ## Layers
# %% Layer
@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A module with a name."""

    name: str
    module: nn.Module

    def __post_init__(self) -> None:
        check_name(self.name, "layer")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module gives, with or without values."""
        if not find_symbols((args, kwargs)):
            return self.module(*args, **kwargs)
        refuse_values(f"layer {self.name!r}", (*args, *kwargs.values()))
        if any(is_lazy(one) for one in self.module.parameters()):
            fill_lazy(self, args, kwargs)
        shown = str(self.module).split("\n")[0].removesuffix("(")
        return record(self, f"layer {self.name!r}, {shown},", args, kwargs, self.trace)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module without values."""
        tensors = [*self.module.named_parameters(), *self.module.named_buffers()]
        state = {name: one.detach().to("meta") for name, one in tensors}
        with torch.no_grad():
            return torch.func.functional_call(self.module, state, args, kwargs)


def fill_lazy(
    layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any], size: int = 2
) -> None:
    """Let modules find out their sizes, on zeros: two for each size not known."""

    def zeros(symbol: SymbolicTensor) -> Tensor:
        sizes = [one if isinstance(one, int) else size for one in symbol.shape]
        return torch.zeros(sizes, dtype=symbol.dtype)

    args, kwargs = replace((args, kwargs), SymbolicTensor, zeros)
    was_training = layer.module.training
    try:
        with torch.no_grad():
            layer.module.eval()(*args, **kwargs)
    except (RuntimeError, ValueError) as error:
        raise GraphError(
            f"layer {layer.name!r} cannot find out its sizes", hint=explain(error)
        ) from error
    finally:
        layer.module.train(was_training)


# ## Networks
# %% build_network
def build_network(
    inputs: Sequence[Tensor], outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]
) -> fx.GraphModule:
    """Return the module that computes outputs from inputs.

    It holds the layers' own modules: networks made of the same layers share them.
    """
    ends = find_ends(outputs)
    calls = find_calls(ends)
    names = check_inputs(inputs, calls)
    layers = check_layers(calls, names)
    graph = fx.Graph()
    starts = [one.call for one in find_symbols(inputs)]
    nodes = {one: graph.placeholder(str(one.target)) for one in starts}
    for call in calls:
        if call not in nodes:
            nodes[call] = add_node(graph, call, nodes)
        nodes[call].meta["sizes"] = call.shape
    graph.output(replace(outputs, SymbolicTensor, lambda one: nodes[one.call]))
    graph.lint()
    return fx.GraphModule(layers, graph, "Network")


def find_ends(outputs: object) -> list[Call]:
    """Return the calls that made the outputs."""
    ends = [one.call for one in find_symbols(outputs)]
    if isinstance(outputs, Mapping):
        outputs = tuple(outputs.values())
    given = outputs if isinstance(outputs, tuple | list) else [outputs]
    others = [one for one in given if not is_symbolic(one)]
    if others or not given:
        text = f"an output is not connected to any input: {others}"
        raise GraphError(text, hint="outputs are what layers give for inputs")
    return ends


def find_calls(ends: Sequence[Call]) -> list[Call]:
    """Return all calls that lead to the given ones, in the order they were made."""
    found, todo = set(ends), list(ends)
    while todo:
        call = todo.pop()
        new = set(find_all((call.args, call.kwargs), Call)) - found
        found |= new
        todo += new
    return sorted(found, key=lambda call: call.number)


def add_node(graph: fx.Graph, call: Call, nodes: Mapping[Call, fx.Node]) -> fx.Node:
    """Add one call to the code of the network."""
    args, kwargs = replace((call.args, call.kwargs), Call, nodes.__getitem__)
    if isinstance(call.target, Layer):
        return graph.call_module(call.target.name, args, kwargs)
    function: Any = call.target
    if function is operator.getitem:
        name = f"{args[0].name}_{args[1]}"
        return graph.create_node("call_function", function, args, name=name)
    name = function_name(function)
    if function.__name__ == "__get__":
        return graph.call_function(getattr, (args[0], name))
    if name == "__getitem__":
        return graph.call_function(operator.getitem, args)
    if function.__qualname__.startswith(("Tensor.", "TensorBase.")):
        return graph.call_method(name, args, kwargs)
    return graph.call_function(function, args, kwargs)


# %% check_inputs
def check_inputs(inputs: Sequence[object], calls: Iterable[Call]) -> list[str]:
    """Return the inputs' names; refuse unknown, unused and doubled inputs."""
    used = [call for call in calls if isinstance(call.target, str)]
    given: list[Call] = []
    for one in inputs:
        if not isinstance(one, Input):
            raise GraphError(f"not an input: {one!r}", hint='Input("image", 28, 28)')
        given.append(one.call)
    names = [str(call.target) for call in given]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise GraphError(f"two inputs are called {twice[0]!r}")
    for call in used:
        if call not in given:
            text = f"the outputs need input {call.target!r}, which is not given"
            raise GraphError(text, hint=f"inputs given: {', '.join(names) or 'none'}")
    for call in given:
        if call not in used:
            raise GraphError(f"no output depends on input {call.target!r}")
    return names


def check_layers(calls: Iterable[Call], names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules by name; refuse one name for two, and two names for one."""
    layers = [call.target for call in calls if isinstance(call.target, Layer)]
    modules: dict[str, nn.Module] = {}
    for layer in layers:
        if modules.setdefault(layer.name, layer.module) is not layer.module:
            raise GraphError(f"two layers are called {layer.name!r}")
        if layer.name in names:
            raise GraphError(f"an input and a layer are called {layer.name!r}")
    owners = {id(module): name for name, module in modules.items()}
    for name, module in modules.items():
        if (owner := owners[id(module)]) != name:
            text = f"layers {name!r} and {owner!r} are one module"
            raise GraphError(text, hint="to share a layer, call it twice")
    return modules


# ## A drawing
# %% draw_network
def draw_network(network: fx.GraphModule) -> str:
    """Return a network as text, one line a step."""
    rows = [draw_node(network, node) for node in network.graph.nodes]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        + f"  {row[3]:>9}"
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def draw_node(network: fx.GraphModule, node: fx.Node) -> tuple[str, str, str, str]:
    """Return a step's name, its making, its shape and its number of parameters.

    A shared layer's parameters are counted where it is called first.
    """
    sizes = node.meta.get("sizes")
    shape = show_sizes(sizes) if sizes else ""
    made_of = f"({', '.join(map(str, node.all_input_nodes))})"
    if node.op == "output":
        return "output", made_of[1:-1], "", ""
    if node.op == "placeholder":
        return node.name, "input", shape, ""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        number = sum(one.numel() for one in module.parameters())
        step = (node.op, node.target)
        again = any((one.op, one.target) == step for one in nodes_before(node))
        what = type(module).__name__ + made_of
        return node.name, what, shape, f"{number:,}" if number and not again else ""
    if node.target is operator.getitem:
        return node.name, f"{node.args[0]}[{show_index(node.args[1])}]", shape, ""
    name = getattr(node.target, "__name__", str(node.target))
    return node.name, name + made_of, shape, ""


def nodes_before(node: fx.Node) -> list[fx.Node]:
    """Return the steps before a step."""
    return list(itertools.takewhile(lambda one: one is not node, node.graph.nodes))


def show_index(index: object) -> str:
    """Return an index as it is written: `:, 0`."""
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join(
        ":".join("" if end is None else str(end) for end in (one.start, one.stop))
        if isinstance(one, slice)
        else repr(one)
        for one in parts
    )
