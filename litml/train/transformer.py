# Exported from nbs/train/19_transformer.ipynb. Edit either side, then run `litml sync`.
"""One plain Transformer: a decoder, an encoder, or both, by configuration; with a
cache for generating.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from litml.train.device import TrainError
from litml.train.loop import evaluating

__all__ = [
    "Kind",
    "Positions",
    "Norm",
    "Activation",
    "WORDS",
    "TransformerError",
    "TransformerConfig",
    "make_turns",
    "turn",
    "Cache",
    "make_mask",
    "Attention",
    "FeedForward",
    "make_norm",
    "View",
    "Block",
    "Stack",
    "Transformer",
    "check_source",
    "start_weights",
    "token_loss",
    "generate",
    "make_caches",
    "choose",
]


# ## The configuration
# %% TransformerConfig
Kind = Literal["decoder", "encoder", "encoder-decoder"]
Positions = Literal["rotary", "learned", "none"]
Norm = Literal["rms", "layer"]
Activation = Literal["gelu", "gelu-tanh", "relu", "swiglu"]
WORDS = {
    "kind": get_args(Kind),
    "positions": get_args(Positions),
    "norm": get_args(Norm),
    "activation": get_args(Activation),
}


class TransformerError(TrainError):
    """The configuration, or what a model is called with, makes no sense."""


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Everything that is decided about a Transformer."""

    vocabulary: int
    context: int = 256  # the most positions it is used with
    width: int = 128
    heads: int = 4
    layers: int = 4  # of the encoder, and of the decoder
    hidden: int | None = None  # width inside of a feed-forward; None: 4 * width
    kind: Kind = "decoder"
    positions: Positions = "rotary"
    norm: Norm = "rms"
    norm_first: bool = True
    activation: Activation = "gelu"
    bias: bool = False
    tie: bool = True  # one matrix reads tokens and writes them
    dropout: float = 0.0
    epsilon: float = 1e-5  # of the norms

    def __post_init__(self) -> None:
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                text = f"{name} is {getattr(self, name)!r}"
                raise TransformerError(text, hint=f"one of {', '.join(words)}")
        if not 0 <= self.dropout < 1:
            raise TransformerError(f"dropout is {self.dropout}: a share below 1")
        for name in ("vocabulary", "context", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise TransformerError(f"{name} is {getattr(self, name)}: at least 1")
        if self.width % self.heads:
            raise TransformerError(
                f"a width of {self.width} cannot be shared by {self.heads} heads"
            )
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise TransformerError(
                f"a head of {self.width // self.heads} numbers has no pairs to turn",
                hint="an even head width, or learned positions",
            )


# ## Positions
# %% turn
def make_turns(head: int, start: int, end: int, device: torch.device) -> Tensor:
    """Return cosine and sine for positions `start` to `end`: (2, time, head / 2)."""
    pairs = torch.arange(0, head, 2, device=device, dtype=torch.float32)
    times = torch.arange(start, end, device=device, dtype=torch.float32)
    angles = torch.outer(times, 10_000.0 ** (-pairs / head))
    return torch.stack([angles.cos(), angles.sin()])


def turn(vectors: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs of queries or keys: (batch, heads, time, head)."""
    first, second = vectors.float().chunk(2, dim=-1)
    cos, sin = turns  # (time, head / 2)
    turned = first * cos - second * sin, first * sin + second * cos
    return torch.cat(turned, dim=-1).type_as(vectors)


# ## Attention
# %% Cache
@dataclass(slots=True)
class Cache:
    """Keys and values of the positions seen so far: (batch, heads, time, head)."""

    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def length(self) -> int:
        """How many positions it holds."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, and return all."""
        if self.keys is not None and self.values is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


def make_mask(
    times: int, past: int, causal: bool, seen: Tensor | None, device: torch.device
) -> Tensor | None:
    """Return who may be seen, (batch or 1, 1, time, past + time), or None for all.

    `seen` is (batch, past + time), false where there is only padding.
    """
    mask = None if seen is None else seen[:, None, None, :]
    if causal and times > 1:
        ones = torch.ones(times, past + times, dtype=torch.bool, device=device)
        order = ones.tril(diagonal=past)
        mask = order[None, None] if mask is None else mask & order
    return mask


# %% Attention
class Attention(nn.Module):
    """Attention of several heads, to oneself or to a memory."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query = nn.Linear(config.width, config.width, bias=config.bias)
        self.key = nn.Linear(config.width, config.width, bias=config.bias)
        self.value = nn.Linear(config.width, config.width, bias=config.bias)
        self.output = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self,
        x: Tensor,  # (batch, time, width)
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        turns: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Return what each position saw: (batch, time, width)."""
        source = x if memory is None else memory
        query, key, value = (
            linear(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, given in (
                (self.query, x),
                (self.key, source),
                (self.value, source),
            )
        )  # (batch, heads, time, head)
        if turns is not None:
            query, key = turn(query, turns), turn(key, turns)
        if cache is not None:
            key, value = cache.extend(key, value)
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(
            query, key, value, mask, dropout, is_causal=causal and mask is None
        )
        mixed: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return mixed


# ## A block
# %% FeedForward
class FeedForward(nn.Module):
    """Two matrices with a bend between them, at each position."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        gated = config.activation == "swiglu"
        hidden = config.hidden or 4 * config.width * (2 if gated else 3) // 3
        self.expand = nn.Linear(config.width, hidden, bias=config.bias)
        if gated:
            self.gate = nn.Linear(config.width, hidden, bias=config.bias)
        self.output = nn.Linear(hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, time, width)."""
        y = self.expand(x)  # (batch, time, hidden)
        match self.activation:
            case "swiglu":
                y = F.silu(self.gate(x)) * y
            case "relu":
                y = F.relu(y)
            case "gelu":
                y = F.gelu(y)
            case _:
                y = F.gelu(y, approximate="tanh")
        made: Tensor = self.output(y)
        return made


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the norm of the configuration."""
    if config.norm == "rms":
        return nn.RMSNorm(config.width, eps=config.epsilon)
    return nn.LayerNorm(config.width, eps=config.epsilon, bias=config.bias)


# %% Block
@dataclass(frozen=True, slots=True)
class View:
    """What a block may look at."""

    mask: Tensor | None = None
    causal: bool = False
    turns: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Tensor | None = None


class Block(nn.Module):
    """One layer of a Transformer."""

    def __init__(self, config: TransformerConfig, reads_memory: bool = False) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention, self.attention_norm = Attention(config), make_norm(config)
        if reads_memory:
            self.reading, self.reading_norm = Attention(config), make_norm(config)
        self.feed_forward, self.feed_forward_norm = (
            FeedForward(config),
            make_norm(config),
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, view: View, cache: Cache | None = None) -> Tensor:
        """Return (batch, time, width)."""

        def attend(x: Tensor) -> Tensor:
            look = view.mask, view.causal, view.turns, cache
            seen: Tensor = self.attention(x, None, *look)
            return seen

        def read(x: Tensor) -> Tensor:
            seen: Tensor = self.reading(x, view.memory, view.memory_mask)
            return seen

        x = self.add(x, attend, self.attention_norm)
        if view.memory is not None:
            x = self.add(x, read, self.reading_norm)
        return self.add(x, self.feed_forward, self.feed_forward_norm)

    def add(
        self,
        x: Tensor,
        part: Callable[[Tensor], Tensor],
        norm: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the input plus what a part makes of it, normed before or after."""
        drop: Callable[[Tensor], Tensor] = self.drop
        if self.norm_first:
            return x + drop(part(norm(x)))
        return norm(x + drop(part(x)))


# %% Stack
class Stack(nn.Module):
    """The blocks of an encoder or a decoder."""

    def __init__(self, config: TransformerConfig, reads_memory: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(config, reads_memory) for _ in range(config.layers)
        )
        self.norm = make_norm(config) if config.norm_first else nn.Identity()

    def forward(
        self, x: Tensor, view: View, caches: Sequence[Cache] | None = None
    ) -> Tensor:
        """Return (batch, time, width)."""
        for i, block in enumerate(self.blocks):
            x = block(x, view, caches[i] if caches else None)
        normed: Tensor = self.norm(x)
        return normed


# ## The model
# %% Transformer
class Transformer(nn.Module):
    """A decoder, an encoder, or an encoder and a decoder.

    Called on tokens, (batch, time), it returns scores, (batch, time, vocabulary).
    `mask` and `source_mask` are true where there is a token, false for padding.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        if config.positions == "learned":
            self.places = nn.Embedding(config.context, config.width)
        self.drop = nn.Dropout(config.dropout)
        if config.kind != "decoder":
            self.encoder = Stack(config)
        if config.kind != "encoder":
            self.decoder = Stack(config, config.kind == "encoder-decoder")
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        start_weights(self)
        if config.tie:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        source: Tensor | None = None,
        mask: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the scores of each position."""
        check_source(self.config, source)
        if self.config.kind == "encoder":
            scores: Tensor = self.head(self.encode(tokens, mask))
            return scores
        memory = None if source is None else self.encode(source, source_mask)
        return self.decode(tokens, memory, mask, source_mask)

    def encode(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the encoder's vectors, (batch, time, width), both sides seen."""
        x, view = self.look(tokens, 0, False, mask)
        vectors: Tensor = self.encoder(x, view)
        return vectors

    def decode(
        self,
        tokens: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        caches: Sequence[Cache] | None = None,
    ) -> Tensor:
        """Return the scores of each position, no later one seen.

        With caches the tokens come after those already seen.
        """
        past = caches[0].length if caches else 0
        x, view = self.look(tokens, past, True, mask)
        seen = None if memory_mask is None else memory_mask[:, None, None, :]
        view = replace(view, memory=memory, memory_mask=seen)
        scores: Tensor = self.head(self.decoder(x, view, caches))
        return scores

    def look(
        self, tokens: Tensor, past: int, causal: bool, seen: Tensor | None
    ) -> tuple[Tensor, View]:
        """Return the embedded tokens, (batch, time, width), and what they may see."""
        if tokens.dim() != 2 or tokens.is_floating_point():
            raise TransformerError(
                f"not tokens: {tuple(tokens.shape)} of {tokens.dtype}",
                hint="tokens are whole numbers, (batch, time)",
            )
        config, times = self.config, tokens.shape[1]
        if past + times > config.context:
            raise TransformerError(
                f"{past + times} positions, and the context is {config.context}"
            )
        x = self.embedding(tokens)
        if config.positions == "learned":
            x = x + self.places(torch.arange(past, past + times, device=x.device))
        turns = None
        if config.positions == "rotary":
            head = config.width // config.heads
            turns = make_turns(head, past, past + times, x.device)
        plain = seen is None and not past  # then the kernel's own flag is enough
        mask = None if plain else make_mask(times, past, causal, seen, x.device)
        causal = causal and mask is None and times > 1
        return self.drop(x), View(mask, causal, turns)


def check_source(config: TransformerConfig, source: Tensor | None) -> None:
    """Refuse a source that nobody reads, and a reader without one."""
    if (source is not None) != (config.kind == "encoder-decoder"):
        how = "without" if source is None else "with"
        raise TransformerError(
            f"called {how} a source, and its kind is {config.kind!r}",
            hint="an encoder-decoder reads a source, and no other kind does",
        )


def start_weights(model: nn.Module) -> None:
    """Start the weights of all matrices, so that the first scores are nearly equal."""
    number = sum(isinstance(one, Attention | FeedForward) for one in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            adds = name.endswith(".output")
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(number if adds else 1))
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


# %% token_loss
def token_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of all positions whose target is not -100."""
    return F.cross_entropy(scores.flatten(0, -2).float(), targets.flatten())


# ## Generating
# %% generate
def generate(
    model: Transformer,
    prompt: Tensor,  # (batch, time)
    count: int,
    *,
    temperature: float = 1.0,
    top: int | None = None,
    generator: torch.Generator | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Return the prompt and `count` more tokens: (batch, time + count)."""
    check_source(model.config, source)
    if model.config.kind == "encoder" or not prompt.shape[1]:
        why = "a prompt of no token" if not prompt.shape[1] else "an encoder"
        raise TransformerError(f"nothing can be generated from {why}")
    context = model.config.context
    with evaluating(model):
        memory = None if source is None else model.encode(source)
        tokens, new, caches = prompt, prompt[:, -context:], make_caches(model)
        for _ in range(count):
            if caches[0].length + new.shape[1] > context:
                new, caches = tokens[:, -(context // 2 or 1) :], make_caches(model)
            scores = model.decode(new, memory, caches=caches)[:, -1]
            new = choose(scores, temperature, top, generator)  # (batch, 1)
            tokens = torch.cat([tokens, new], dim=1)
    return tokens


def make_caches(model: Transformer) -> list[Cache]:
    """Return an empty cache for each layer."""
    return [Cache() for _ in range(model.config.layers)]


def choose(
    scores: Tensor,
    temperature: float,
    top: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Return one token for each sequence, (batch, 1), drawn by the scores."""
    if temperature == 0:
        return scores.argmax(dim=-1, keepdim=True)
    if top is not None:
        least = scores.topk(min(top, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    chances = torch.softmax(scores.float() / temperature, dim=-1)
    return torch.multinomial(chances, 1, generator=generator)
