"""The attention kernels, every version: as close as torch's own, for any lengths, layouts, masks and tiles."""

import functools

import pytest
import torch
import torch.nn.functional as F
from budget import DEVICE, DTYPES, LENGTHS, check, dtypes, examples, normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from miniclip import InputError
from miniclip.kernels import attention as attention_kernels
from miniclip.kernels import attention_carry, attention_heads, device
from miniclip.kernels.attention import attention
from miniclip.ops import torch_ops

LONG = [197, 257, 577]

LAYOUTS = {
    "packed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "heads first": lambda x: x.permute(2, 0, 3, 1, 4).contiguous().permute(1, 3, 0, 2, 4),
    "every other": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "off by one": lambda x: F.pad(x, (1, 2))[..., 1:-2],
    "width apart": lambda x: x.transpose(3, 4).contiguous().transpose(3, 4),
}


@examples(60, 15, 8)  # of six versions
@given(
    seed=seeds,
    B=st.integers(1, 2),
    Tq=st.sampled_from(LENGTHS),
    Tk=st.sampled_from(LENGTHS),
    H=st.integers(1, 3),
    K=st.sampled_from([3, 16, 32, 64, 80, 128]),
    dtype=dtypes,
    layout=st.sampled_from(sorted(LAYOUTS)),
    causal=st.booleans(),
    padded=st.booleans(),
    scale=st.sampled_from([0.1, 1, 30]),
    version=st.sampled_from([1, 2, 3, 4, 5, 6]),
    config=st.none() | st.tuples(*[st.sampled_from([16, 32, 64, 128])] * 2),
)
def test_attention(seed, B, Tq, Tk, H, K, dtype, layout, causal, padded, scale, version, config):
    """Any lengths, widths, layouts, masks and tiles, and scores so large that the weights are ones and zeros."""
    q = normal(seed, B, Tq, 1, H, K, dtype=dtype, scale=scale)
    k, v = normal(seed + 1, B, Tk, 2, H, K, dtype=dtype, scale=scale).unbind(2)
    (q,), (k, v) = LAYOUTS[layout](q).unbind(2), LAYOUTS[layout](torch.stack([k, v], 2)).unbind(2)
    lengths = (
        torch.randint(1, Tk + 1, (B, 2), generator=torch.Generator().manual_seed(seed % 2**63)) if padded else None
    )
    mask = {"causal": causal, "lengths": None if lengths is None else lengths.to(DEVICE)[:, 1]}
    tiles = config and {"BLOCK_M": config[0], "BLOCK_N": config[1], "num_warps": 4, "num_stages": 1}
    largest_score = (torch.einsum("bqhk,bthk->bhqt", q.double(), k.double()).abs().max() / K**0.5).item()
    kernel = functools.partial(attention, **mask, version=version, config=tiles)
    check(kernel, torch_ops.attention, [q, k, v], largest_score, **mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", LONG)
def test_attention_at_the_lengths_of_large_pictures(T, dtype):
    qkv = normal(T, 1, T, 3, 1, 64, dtype=dtype).unbind(2)
    check(attention, torch_ops.attention, qkv)
    check(functools.partial(attention, causal=True), torch_ops.attention, qkv, causal=True)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_the_size_of_tiles_changes_nothing(causal, version):
    qkv = normal(0, 2, 77, 3, 2, 32, dtype=torch.float16).unbind(2)
    for config in {
        (c["BLOCK_M"], c["BLOCK_N"]): c for c in attention_kernels.candidates() if "version" not in c
    }.values():
        kernel = functools.partial(attention, causal=causal, version=version, config=config)
        check(kernel, torch_ops.attention, qkv, causal=causal)


def test_attention_of_one_query_after_many_keys():
    """What the last block computes: one query a sequence, which sees the keys up to the end of the text."""
    q, k, v = normal(0, 3, 1, 2, 32), *normal(1, 3, 77, 2, 2, 32).unbind(2)
    lengths = torch.tensor([1, 16, 77], device=DEVICE)
    check(functools.partial(attention, lengths=lengths), torch_ops.attention, [q, k, v], lengths=lengths)


@pytest.mark.parametrize("causal", [False, True])
def test_lengths_that_leave_the_first_tile_without_keys(causal):
    """The tail of keys comes first, and is empty after a multiple of BLOCK_N keys: none of its keys may be weighed."""
    qkv = normal(0, 4, 77, 3, 2, 32).unbind(2)
    mask = {"causal": causal, "lengths": torch.tensor([1, 32, 64, 77], device=DEVICE)}
    config = {"BLOCK_M": 32, "BLOCK_N": 32, "num_warps": 4, "num_stages": 1}
    check(functools.partial(attention, **mask, config=config), torch_ops.attention, qkv, **mask)


# ------------------------------------------------------------------------------ version 5: carried queries


@pytest.fixture
def hopper():
    """What runs kernels here is a Hopper, or does as one."""
    if device.capability() != 90:
        pytest.skip("versions 5 and 6 have tiles for compute capability 9.0 alone")


@pytest.mark.parametrize(("Tq", "Tk"), [(65, 65), (80, 80), (197, 197), (257, 257), (129, 16), (65, 200), (66, 64)])
def test_the_last_full_tile_carries_the_queries_after_it(Tq, Tk, hopper):
    q, (k, v) = normal(0, 2, Tq, 2, 32, dtype=torch.float16), normal(1, 2, Tk, 2, 2, 32, dtype=torch.float16).unbind(2)
    assert attention_carry.find_config(q, k, v, False, None)
    check(functools.partial(attention, version=5), torch_ops.attention, [q, k, v])


def test_what_is_not_carried(monkeypatch, hopper):
    qkv = [normal(i, 1, 129, 1, 32, dtype=torch.float16) for i in range(3)]
    find = attention_carry.find_config
    assert find(*qkv, False, None) and not find(*qkv, True, None) and not find(*qkv, False, torch.tensor([5]))
    for T, K in ((64, 32), (63, 32), (81, 32), (129, 80), (577, 64)):
        assert not find(*[torch.empty(1, T, 1, K, dtype=torch.float16)] * 3, False, None)
    assert not find(*(x.float() for x in qkv), False, None)
    monkeypatch.setattr(device, "capability", lambda: 89)
    assert not find(*qkv, False, None)


# ------------------------------------------------------------------------------- version 6: many heads a program


@pytest.fixture
def one_processor(monkeypatch):
    """A GPU so small that every program takes several heads, the last ones fewer."""
    monkeypatch.setattr(device, "processors", lambda x: 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T", [1, 16, 31, 50, 64, 65, 77, 81, 96, 128])
def test_a_program_takes_several_heads(T, causal, one_processor, hopper):
    qkv = normal(T, 5, T, 3, 3, 32, dtype=torch.float16).unbind(2)
    assert attention_heads.find_config(*qkv, False, None)["PROGRAMS"] < 5 * 3
    check(functools.partial(attention, causal=causal, version=6), torch_ops.attention, qkv, causal=causal)


@pytest.mark.parametrize("T", [50, 77])
def test_a_head_sees_nothing_of_its_neighbours(T, one_processor, hopper):
    """Tiles are larger than heads: what they have beyond one is zeros, not another sequence or head."""
    qkv = normal(T, 3, T, 3, 3, 64, dtype=torch.float16)
    before = attention(*qkv.unbind(2))
    qkv[:, :, :, 1] = qkv[1] = 1e4
    after = attention(*qkv.unbind(2))
    assert torch.equal(before[::2, :, ::2], after[::2, :, ::2])


def _packed(*shape, dtype=torch.float16):
    return normal(0, *shape, dtype=dtype).unbind(2)


NOT_OF_VERSION_6 = {
    "float32": lambda: _packed(2, 50, 3, 2, 32, dtype=torch.float32),
    "longer than 128": lambda: _packed(1, 129, 3, 1, 32),
    "too much for shared memory": lambda: _packed(1, 65, 3, 1, 128),
    "another width": lambda: _packed(2, 50, 3, 2, 80),
    "one query": lambda: (_packed(2, 1, 3, 2, 32)[0], *_packed(2, 50, 3, 2, 32)[1:]),
    "not 16 bytes apart": lambda: [x[..., :32] for x in _packed(2, 50, 3, 1, 36)],
    "off by one": lambda: [x[..., 1:33] for x in _packed(2, 50, 3, 1, 40)],
    "heads not side by side": lambda: [x[:, :, ::2] for x in _packed(2, 50, 3, 3, 32)],
    "one sequence for all": lambda: [x[:1].expand(2, -1, -1, -1) for x in _packed(2, 50, 3, 2, 32)],
}


@pytest.mark.parametrize("case", NOT_OF_VERSION_6)
def test_what_version_6_does_not_take_others_compute(case, hopper):
    qkv = NOT_OF_VERSION_6[case]()
    assert attention_heads.find_config(*qkv, False, None) is None
    check(functools.partial(attention, version=6), torch_ops.attention, qkv)
    with pytest.raises(InputError, match="version 6 of attention does not take these tensors"):
        attention(*qkv, config={"version": 6, "num_warps": 4, "num_stages": 2, "PROGRAMS": 3})


def test_version_6_needs_the_copy_engine_and_no_lengths(monkeypatch, hopper):
    qkv = _packed(2, 50, 3, 2, 32)
    assert attention_heads.find_config(*qkv, False, None)
    assert attention_heads.find_config(*qkv, False, torch.tensor([1, 50])) is None
    monkeypatch.setattr(device, "capability", lambda: 89)
    assert attention_heads.find_config(*qkv, False, None) is None


def test_how_many_programs_compute_changes_nothing(hopper):
    qkv = _packed(2, 77, 3, 2, 32)
    first, *others = [c for c in attention_kernels.candidates() if c.get("version") == 6]
    for programs in {c["PROGRAMS"] for c in others}:
        assert torch.equal(attention(*qkv, config={**first, "PROGRAMS": programs}), attention(*qkv, config=first))
