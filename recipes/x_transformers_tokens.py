"""A token transformer: x-transformers over the tokens of vector-quantize-pytorch, trained by unmasking."""

import checks
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import VectorQuantize
from x_transformers import Encoder, TransformerWrapper

from context_prediction import ContextPrediction, Linear, as_grid, capture  # + 1

torch.manual_seed(0)
CODES, MASK, T = 32, 32, 100
quantizer = VectorQuantize(dim=8, codebook_size=CODES).eval()
latents = F.interpolate(torch.randn(4, 8, 3, 3), size=8, mode="bilinear")
tokens = quantizer(latents.flatten(2).mT)[1]  # (b, n) on a grid of 8 x 8


def transformer() -> TransformerWrapper:
    """Tokens, or the mask, to logits."""
    return TransformerWrapper(num_tokens=CODES + 1, max_seq_len=64, attn_layers=Encoder(dim=32, depth=2, heads=2))


model = transformer()
context, weight = ContextPrediction(features=32, target=8), Linear(0.1, T)  # + 2
captured = capture(model, "to_logits")  # + 3
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
optimizer.add_param_group({"params": context.parameters()})  # + 4
losses, pristine = checks.watch(context), transformer()

for _ in range(60):
    t = torch.randint(1, T + 1, (4,))
    masked = torch.rand(tokens.shape) < t[:, None] / T
    logits = model(tokens.masked_fill(masked, MASK))
    loss = F.cross_entropy(logits.mT, tokens, reduction="none").mul(masked).mean(1)
    loss += weight(t) * context(as_grid(captured.input, 8, 8), as_grid(quantizer.codebook[tokens], 8, 8)).loss  # + 5
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()

captured.close()
checks.falls(losses)
checks.leaves_nothing(model, pristine, lambda network: network.eval()(tokens.masked_fill(masked, MASK)))
