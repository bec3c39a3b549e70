"""Linear assignment for any number of problems at once: one question, several engines, the same exact answer.

An *engine* is a plain function from finite costs `(n, q, q)` to matchings `(n, q)`. `linear_assignment` checks its
input, picks the engine that suits the device and the size, and feeds it in chunks; `engine=` names another.
"""

from .batched import torch_batched as torch_batched
from .enumeration import permutations as permutations
from .programs import triton_programs as triton_programs
from .sequential import scipy_loop as scipy_loop
from .solver import CHUNK as CHUNK
from .solver import Engine as Engine
from .solver import choose as choose
from .solver import linear_assignment as linear_assignment
from .threads import numba_threads as numba_threads
