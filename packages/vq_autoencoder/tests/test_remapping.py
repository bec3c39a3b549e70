import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_autoencoder import Remapping


@pytest.mark.parametrize(("codes", "used"), [(8192, 2887), (1024, 548), (16384, 974)])
def test_published_sizes_go_there_and_back(codes, used):
    """Checks: VQ-Diffusion tokeniser, ImageBART used codes"""
    chosen = torch.randperm(codes, generator=torch.Generator().manual_seed(0))[:used]
    remapping = Remapping.from_used(chosen, codes)
    tokens = torch.arange(used).view(1, -1, 1)
    assert remapping.tokens == used
    assert torch.equal(remapping.narrow(remapping.widen(tokens)), tokens)
    assert torch.equal(remapping.widen(remapping.narrow(chosen)), chosen)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_table_equals_a_loop(labels):
    order = sorted(set(labels))
    table = [order.index(label) for label in labels]
    remapping = Remapping.from_table(torch.tensor(table))
    assert remapping.to_code.tolist() == [table.index(token) for token in range(len(order))]
    assert remapping.narrow(torch.arange(len(table))).tolist() == table


def test_dead_codes_that_share_token_zero():
    """The layout of VQ-Diffusion's table: 5306 dead codes on token 0, the others numbered on.

    Checks: VQ-Diffusion tokeniser
    """
    dead = torch.zeros(8192, dtype=torch.bool)
    dead[torch.randperm(8192, generator=torch.Generator().manual_seed(0))[:5306]] = True
    table = torch.where(dead, 0, (~dead).cumsum(0))
    remapping = Remapping.from_table(table)
    assert remapping.tokens == 2887
    live = (~dead).nonzero().flatten()
    assert torch.equal(remapping.widen(remapping.narrow(live)), live)
    assert dead[remapping.widen(torch.tensor([0]))].all()


def test_usage_says_which_codes_are_used():
    remapping = Remapping.from_usage(torch.tensor([0.5, 0.0, 0.2, 0.3]), unknown=0)
    assert remapping.to_code.tolist() == [0, 2, 3]
    assert remapping.narrow(torch.tensor([[3, 1]])).tolist() == [[2, 0]]


def test_refuses_what_has_no_place():
    remapping = Remapping.from_used([1, 3], 4)
    with pytest.raises(ValueError, match=r"2 tokens have unused codes \(0, 2\); give unknown="):
        remapping.narrow(torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"0..1, got 2..2"):
        remapping.widen(torch.tensor([2]))
    with pytest.raises(ValueError, match="each once"):
        Remapping.from_used([1, 1], 4)
    with pytest.raises(ValueError, match=r"0..3, got 1..4"):
        Remapping.from_used([1, 4], 4)
    with pytest.raises(ValueError, match=r"tokens \[1\] have no code"):
        Remapping.from_table(torch.tensor([0, 2]))
