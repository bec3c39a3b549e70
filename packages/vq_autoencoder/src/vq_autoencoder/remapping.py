"""Used codes under numbers of their own: a codebook of 8192 of which images use 2887 gives 2887 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from .codes import check_tokens

UNKNOWN = -1


@dataclass(frozen=True)
class Remapping:
    """Tables between the `k` codes of a codebook and the `m` tokens that a denoiser sees.

    to_token: token of each code, -1 where it has none; to_code: code of each token. `narrow` undoes `widen`; `widen`
    undoes `narrow` wherever a code has a token to itself.

    Raises:
        ValueError: a table points outside the other.

    Source: VQ-Diffusion tokeniser, ImageBART used codes
    """

    to_token: Int64[Tensor, " k"]
    to_code: Int64[Tensor, " m"]

    def __post_init__(self) -> None:
        k, m = len(self.to_token), len(self.to_code)
        check_tokens(self.to_code, k)
        check_tokens(self.to_token.clamp_min(0), m)

    @classmethod
    def from_used(
        cls, used: Tensor | Sequence[int], codes: int, *, unknown: int | None = None, extra: bool = False
    ) -> Remapping:
        """Code `used[i]` is token `i`; each of the other codes is token `unknown`, or has none where that is None.

        With `extra` the unused codes share one more token, `len(used)`, whose code is `used[0]`, as in taming.

        Raises:
            ValueError: no used code, one twice, or one outside 0..codes-1.
        """
        used = torch.as_tensor(used, dtype=torch.int64)
        if not len(used) or len(torch.unique(used)) < len(used):
            raise ValueError(f"used must name at least one code, each once; got {len(used)}")
        check_tokens(used, codes)
        rest = len(used) if extra else UNKNOWN if unknown is None else unknown
        to_token = torch.full((codes,), rest)
        to_token[used] = torch.arange(len(used))
        return cls(to_token, torch.cat([used, used[:1]]) if extra else used)

    @classmethod
    def from_usage(cls, usage: Tensor, *, unknown: int | None = None, extra: bool = False) -> Remapping:
        """The codes that have any `usage` (k,), in their order."""
        return cls.from_used(usage.nonzero().flatten(), len(usage), unknown=unknown, extra=extra)

    @classmethod
    def from_table(cls, to_token: Int64[Tensor, " k"]) -> Remapping:
        """The table of each code's token, as VQ-Diffusion's files have it; a token's code is its first one.

        Raises:
            ValueError: a token below the largest has no code.
        """
        m = int(to_token.max()) + 1
        to_code = torch.full((m,), len(to_token))
        known = to_token >= 0
        codes = torch.arange(len(to_token))[known]
        to_code.scatter_reduce_(0, to_token[known], codes, reduce="amin")
        if missing := (to_code == len(to_token)).nonzero().flatten().tolist():
            raise ValueError(f"to_token: tokens {missing[:10]} have no code; tokens must be numbered without gaps")
        return cls(to_token, to_code)

    @property
    def tokens(self) -> int:
        """Number of tokens, m."""
        return len(self.to_code)

    def narrow(self, indices: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """Tokens of codes, any shape.

        Raises:
            ValueError: a code lies outside 0..k-1 or has no token.
        """
        check_tokens(indices, len(self.to_token))
        tokens = self.to_token.to(indices.device)[indices]
        if bool((lost := tokens == UNKNOWN).any()):
            names = torch.unique(indices[lost]).tolist()
            raise ValueError(
                f"indices: {int(lost.sum())} tokens have unused codes ({', '.join(map(str, names[:10]))}); "
                "give unknown= or extra=True to keep them"
            )
        return tokens

    def widen(self, tokens: Int64[Tensor, "*s"]) -> Int64[Tensor, "*s"]:
        """Codes of tokens, any shape.

        Raises:
            ValueError: a token lies outside 0..m-1.
        """
        check_tokens(tokens, self.tokens)
        return self.to_code.to(tokens.device)[tokens]
