import torch
import torch.nn.functional as F

from discrete_diffusion.attention import CrossAttention, SelfAttention, attention


def test_written_out_attention_is_the_fused_one_up_to_rounding() -> None:
    """Oracle: torch's fused attention in float32."""
    q, k, v = (torch.randn(2, 3, n, 8, generator=torch.Generator().manual_seed(n)) for n in (5, 7, 8))
    v = v[:, :, :7]
    expected = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attention(q, k, v), expected)
    written = attention(q.bfloat16(), k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(written.float(), expected, atol=0.03, rtol=0.03)


def test_attention_does_not_know_the_order_of_what_it_attends_to() -> None:
    """Invariance: permuted states change nothing; permuted tokens are permuted."""
    torch.manual_seed(0)
    x, states, order = torch.randn(2, 6, 8), torch.randn(2, 5, 4), torch.randperm(6)
    cross, own = CrossAttention(8, 4, 2), SelfAttention(8, 2)
    torch.testing.assert_close(cross(x, states.flip(1)), cross(x, states))
    torch.testing.assert_close(own(x[:, order]), own(x)[:, order])
