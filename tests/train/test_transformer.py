"""The Transformer is PyTorch's, GPT-2's and Llama's, by configuration."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from litml.train.transformer import (
    Attention,
    Block,
    Transformer,
    TransformerConfig,
    TransformerError,
    View,
    generate,
    make_caches,
    make_turns,
    token_loss,
    turn,
)

torch.set_num_threads(1)


def make_model(**more: object) -> Transformer:
    torch.manual_seed(0)
    settings = {"vocabulary": 31, "context": 16, "width": 16, "heads": 2, "layers": 2}
    return Transformer(TransformerConfig(**{**settings, **more})).eval()  # type: ignore[arg-type]


def make_tokens(batch: int = 3, times: int = 9) -> Tensor:
    return torch.randint(31, (batch, times), generator=torch.Generator().manual_seed(1))


# Against PyTorch's own layers --------------------------------------------------------


def copy_attention(own: Attention, torchs: nn.MultiheadAttention) -> None:
    weights, biases = torchs.in_proj_weight.chunk(3), torchs.in_proj_bias.chunk(3)
    parts = (own.query, own.key, own.value)
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        part.weight.copy_(weight)
        part.bias.copy_(bias)
    own.output.load_state_dict(torchs.out_proj.state_dict())


@torch.no_grad()
def copy_block(
    own: Block, torchs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer
) -> None:
    for one in torchs.parameters():
        one.copy_(torch.randn_like(one) * 0.3)
    copy_attention(own.attention, torchs.self_attn)
    own.attention_norm.load_state_dict(torchs.norm1.state_dict())
    own.feed_forward.expand.load_state_dict(torchs.linear1.state_dict())
    own.feed_forward.output.load_state_dict(torchs.linear2.state_dict())
    last = torchs.norm2
    if isinstance(torchs, nn.TransformerDecoderLayer):
        copy_attention(own.reading, torchs.multihead_attn)
        own.reading_norm.load_state_dict(torchs.norm2.state_dict())
        last = torchs.norm3
    own.feed_forward_norm.load_state_dict(last.state_dict())


def torch_like(norm_first: bool, activation: str) -> TransformerConfig:
    return TransformerConfig(
        vocabulary=31,
        width=16,
        heads=4,
        hidden=40,
        norm="layer",
        norm_first=norm_first,
        activation=activation,  # type: ignore[arg-type]
        bias=True,
        positions="none",
    )


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_block_is_torchs(norm_first: bool, activation: str) -> None:
    torch.manual_seed(0)
    own = Block(torch_like(norm_first, activation))
    theirs = nn.TransformerEncoderLayer(
        16, 4, 40, 0.0, activation, batch_first=True, norm_first=norm_first
    )
    copy_block(own, theirs)
    x = torch.randn(3, 7, 16)
    real = torch.ones(3, 7, dtype=torch.bool)
    real[1, 4:] = real[2, 6:] = False
    torch.testing.assert_close(own(x, View()), theirs(x))
    masked = theirs(x, src_key_padding_mask=~real)
    torch.testing.assert_close(own(x, View(mask=real[:, None, None])), masked)
    later = nn.Transformer.generate_square_subsequent_mask(7)
    causal = theirs(x, src_mask=later, is_causal=True)
    torch.testing.assert_close(own(x, View(causal=True)), causal)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_decoder_block_is_torchs(norm_first: bool) -> None:
    torch.manual_seed(0)
    own = Block(torch_like(norm_first, "relu"), reads_memory=True)
    theirs = nn.TransformerDecoderLayer(
        16, 4, 40, 0.0, batch_first=True, norm_first=norm_first
    )
    copy_block(own, theirs)
    x, memory = torch.randn(3, 7, 16), torch.randn(3, 5, 16)
    real = torch.ones(3, 5, dtype=torch.bool)
    real[1, 2:] = False
    later = nn.Transformer.generate_square_subsequent_mask(7)
    expected = theirs(x, memory, tgt_mask=later, memory_key_padding_mask=~real)
    view = View(causal=True, memory=memory, memory_mask=real[:, None, None])
    torch.testing.assert_close(own(x, view), expected)


# Against published models ------------------------------------------------------------


@torch.no_grad()
def test_it_is_gpt2() -> None:
    transformers = pytest.importorskip("transformers", reason="GPT-2 to compare with")
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for one in theirs.parameters():
        one.copy_(torch.randn_like(one) * 0.3)
    own = make_model(
        positions="learned", norm="layer", activation="gelu-tanh", bias=True
    )
    body = theirs.transformer
    own.embedding.load_state_dict(body.wte.state_dict())
    own.places.load_state_dict(body.wpe.state_dict())
    own.decoder.norm.load_state_dict(body.ln_f.state_dict())
    for block, other in zip(own.decoder.blocks, body.h, strict=True):
        assert isinstance(block, Block)
        block.attention_norm.load_state_dict(other.ln_1.state_dict())
        block.feed_forward_norm.load_state_dict(other.ln_2.state_dict())
        attention, ff = block.attention, block.feed_forward
        weights = other.attn.c_attn.weight.T.chunk(3)  # theirs stand on their side
        biases = other.attn.c_attn.bias.chunk(3)
        parts = [attention.query, attention.key, attention.value]
        parts += [attention.output, ff.expand, ff.output]
        more = (other.attn.c_proj, other.mlp.c_fc, other.mlp.c_proj)
        pairs = [*zip(weights, biases, strict=True)]
        pairs += [(one.weight.T, one.bias) for one in more]
        for part, (weight, bias) in zip(parts, pairs, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    tokens = make_tokens()
    torch.testing.assert_close(own(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_it_is_llama() -> None:
    transformers = pytest.importorskip("transformers", reason="Llama to compare with")
    config = transformers.LlamaConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        rms_norm_eps=1e-5,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    for one in theirs.parameters():
        one.copy_(torch.randn_like(one) * 0.3)
    own = make_model(activation="swiglu", hidden=40, tie=False)
    names = {
        "decoder.blocks": "model.layers",
        "attention_norm": "input_layernorm",
        "feed_forward_norm": "post_attention_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feed_forward.expand": "mlp.up_proj",
        "feed_forward.gate": "mlp.gate_proj",
        "feed_forward.output": "mlp.down_proj",
        "embedding": "model.embed_tokens",
        "decoder.norm": "model.norm",
        "head": "lm_head",
    }
    weights = theirs.state_dict()
    for name, one in own.named_parameters():
        place = name
        for ours, other in names.items():
            place = place.replace(ours, other)
        one.copy_(weights.pop(place))
    assert not weights, "all of it is used"
    tokens = make_tokens()
    torch.testing.assert_close(own(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


# What it promises --------------------------------------------------------------------

KINDS = [
    {"positions": "rotary"},
    {"positions": "learned"},
    {"positions": "none"},
    {"norm": "layer", "norm_first": False, "bias": True},
    {"activation": "swiglu", "tie": False},
]


@pytest.mark.parametrize("settings", KINDS)
def test_no_position_sees_a_later_one(settings: dict[str, object]) -> None:
    """Seen in the gradient of each position's scores by each position's vector."""
    model = make_model(**settings)
    tokens = make_tokens(1, 6)
    vectors: list[Tensor] = []

    def keep(module: nn.Module, given: object, vector: Tensor) -> None:
        vector.retain_grad()
        vectors.append(vector)

    model.embedding.register_forward_hook(keep)
    scores = model(tokens)
    weights = torch.randn(31, generator=torch.Generator().manual_seed(0))
    for t in range(6):
        model.zero_grad()
        vectors[0].grad = None
        (scores[0, t] @ weights).backward(retain_graph=True)
        assert vectors[0].grad is not None
        touched = vectors[0].grad.abs().sum(dim=2)[0] > 0
        assert touched.tolist() == [i <= t for i in range(6)]


def test_an_encoder_sees_both_sides_and_no_padding() -> None:
    model = make_model(kind="encoder")
    tokens = make_tokens(2, 6)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    out = model.encode(tokens, mask)
    other = tokens.clone()
    other[1, 4:] = 0
    torch.testing.assert_close(model.encode(other, mask)[1, :4], out[1, :4])
    torch.testing.assert_close(model.encode(tokens[1:, :4])[0], out[1, :4])
    other[0, 5] += 1
    assert not torch.allclose(model.encode(other, mask)[0, 0], out[0, 0])
    assert model(tokens).shape == (2, 6, 31)


def test_an_encoder_and_a_decoder() -> None:
    model = make_model(kind="encoder-decoder")
    tokens, source = make_tokens(2, 5), make_tokens(2, 7)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    out = model(tokens, source, source_mask=mask)
    changed = source.clone()
    changed[1, 4:] = 0
    torch.testing.assert_close(model(tokens, changed, source_mask=mask), out)
    changed[:, 0] = (source[:, 0] + 1) % 31
    assert not torch.allclose(model(tokens, changed, source_mask=mask), out)
    later = tokens.clone()
    later[:, 4] = 0
    torch.testing.assert_close(
        model(later, source, source_mask=mask)[:, :4], out[:, :4]
    )


@pytest.mark.parametrize("settings", KINDS)
def test_with_the_cache_the_scores_are_the_same(settings: dict[str, object]) -> None:
    model, tokens = make_model(**settings), make_tokens(3, 12)
    expected = model(tokens)
    for sizes in ([12], [1] * 12, [5, 1, 4, 2]):
        caches, got = make_caches(model), []
        for part in tokens.split(sizes, dim=1):
            got.append(model.decode(part, caches=caches))
        torch.testing.assert_close(torch.cat(got, dim=1), expected)
        assert caches[0].length == 12


def test_generated_with_the_cache_and_without() -> None:
    model = make_model()
    for one in model.parameters():
        nn.init.normal_(one, std=0.3)
    prompt, expected = make_tokens(2, 3), make_tokens(2, 3)
    for _ in range(13):  # up to the context's end
        new = model(expected)[:, -1:].argmax(dim=-1)
        expected = torch.cat([expected, new], dim=1)
    assert torch.equal(generate(model, prompt, 13, temperature=0), expected)
    longer = generate(model, prompt, 40, temperature=0)
    assert longer.shape == (2, 43) and torch.equal(longer[:, :16], expected)
    again = [torch.Generator().manual_seed(5) for _ in range(2)]
    drawn = [generate(model, prompt, 20, generator=one) for one in again]
    assert torch.equal(*drawn)
    assert torch.equal(generate(model, prompt, 13, top=1), expected)


def test_a_source_is_read_while_generating() -> None:
    model = make_model(kind="encoder-decoder")
    for one in model.parameters():
        nn.init.normal_(one, std=0.5)
    prompt, source = make_tokens(1, 1), make_tokens(1, 7)
    first = generate(model, prompt, 10, temperature=0, source=source)
    other = generate(model, prompt, 10, temperature=0, source=(source + 3) % 31)
    assert not torch.equal(first, other)


def test_rotary_positions_are_relative() -> None:
    query, key = torch.randn(2, 1, 1, 20, 8, generator=torch.Generator().manual_seed(0))
    device = torch.device("cpu")
    early, late = make_turns(8, 0, 20, device), make_turns(8, 1000, 1020, device)
    here = turn(query, early) @ turn(key, early).mT
    there = turn(query, late) @ turn(key, late).mT
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", KINDS)
def test_the_first_loss_is_that_of_guessing(settings: dict[str, object]) -> None:
    model = make_model(vocabulary=500, width=64, layers=4, **settings)
    tokens = torch.randint(500, (8, 16))
    loss = token_loss(model(tokens), torch.randint(500, (8, 16))).item()
    assert loss == pytest.approx(math.log(500), abs=0.1)


def test_positions_without_target_do_not_count() -> None:
    scores, targets = torch.randn(2, 4, 5), torch.randint(5, (2, 4))
    targets[0, 1:] = -100
    kept = [(0, 0), *((1, t) for t in range(4))]
    each = [nn.functional.cross_entropy(scores[i], targets[i]) for i in kept]
    torch.testing.assert_close(token_loss(scores, targets), torch.stack(each).mean())


def test_it_is_an_ordinary_module() -> None:
    model, tokens = make_model(kind="decoder"), make_tokens()
    expected = model(tokens)
    assert torch.equal(copy.deepcopy(model)(tokens), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(tokens), expected)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), expected)
    assert model.head.weight is model.embedding.weight
    exported = torch.export.export(model, (tokens,))
    torch.testing.assert_close(exported.module()(tokens), expected)


def test_bfloat16_and_dropout() -> None:
    model = make_model(dropout=0.5).bfloat16()
    tokens = make_tokens()
    assert model(tokens).dtype == torch.bfloat16
    model.train()
    assert not torch.equal(model(tokens), model(tokens))
    generate(model, tokens, 2)
    assert model.training, "it is in the mode in which it was"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 10, "heads": 3}, "cannot be shared by 3 heads"),
        ({"width": 6, "heads": 2}, "no pairs to turn"),
        ({"vocabulary": 0}, "vocabulary is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"kind": "encode"}, "kind is 'encode'"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"dropout": 1.5}, "dropout is 1.5"),
    ],
)
def test_mistakes_in_the_configuration(settings: object, message: str) -> None:
    with pytest.raises(TransformerError, match=message):
        make_model(**settings)  # type: ignore[arg-type]


def test_mistakes_in_a_call() -> None:
    decoder, encoder = make_model(), make_model(kind="encoder")
    both, tokens = make_model(kind="encoder-decoder"), make_tokens()
    for model, given, message in [
        (decoder, (make_tokens(1, 17),), "17 positions, and the context is 16"),
        (decoder, (tokens, tokens), "with a source"),
        (encoder, (tokens, tokens), "with a source"),
        (both, (tokens,), "without a source"),
        (decoder, (tokens[0],), "not tokens"),
        (decoder, (tokens.float(),), "not tokens"),
    ]:
        with pytest.raises(TransformerError, match=message):
            model(*given)
    with pytest.raises(TransformerError, match="from an encoder"):
        generate(encoder, tokens, 1)
    with pytest.raises(TransformerError, match="no token"):
        generate(decoder, tokens[:, :0], 1)
