import itertools
import multiprocessing
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment

import context_prediction.assignment.sequential as sequential
import context_prediction.assignment.solver as solver
import context_prediction.assignment.threads as threads_module
from context_prediction import linear_assignment, transport, wasserstein
from context_prediction.assignment import (
    choose,
    numba_threads,
    permutations,
    scipy_loop,
    torch_batched,
    triton_programs,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_numba = pytest.mark.skipif(
    not threads_module.NUMBA_IS_INSTALLED, reason="numba, of the extra 'fast', is not installed"
)
numba_param = pytest.param(numba_threads, marks=needs_numba)
engines = pytest.mark.parametrize("engine", [permutations, scipy_loop, numba_param, torch_batched])
large_engines = pytest.mark.parametrize("engine", [scipy_loop, numba_param, torch_batched])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])

KINDS = {
    "uniform": lambda n, q, g: torch.rand(n, q, q, generator=g),
    "negative": lambda n, q, g: -3 * torch.rand(n, q, q, generator=g) + 1,
    "distances": lambda n, q, g: torch.cdist(*torch.randn(2, n, q, 3, generator=g)) ** 2,
    "integers": lambda n, q, g: torch.randint(-2, 3, (n, q, q), generator=g).float(),
    "repeated": lambda n, q, g: torch.rand(n, q, q, generator=g)[:, torch.randint(q, (q,), generator=g)],
    "equal": lambda n, q, g: torch.full((n, q, q), 0.1),
}


def totals(cost, matching):
    return cost.double().gather(-1, matching[..., None]).squeeze(-1).sum(-1)


def least_totals(cost):
    """Least total cost: of all permutations for q up to 7, SciPy's above."""
    q, rows = cost.shape[-1], torch.arange(cost.shape[-1])
    if q <= 7:
        trials = itertools.permutations(range(q))
        return torch.stack([cost.double()[:, rows, list(columns)].sum(-1) for columns in trials]).amin(0)
    found = [linear_sum_assignment(problem)[1] for problem in cost.double().numpy()]
    return totals(cost, torch.from_numpy(np.array(found)))


def assert_matchings(matching, cost):
    """A permutation of every problem, int64, beside its costs."""
    assert matching.dtype == torch.int64 and matching.device == cost.device
    assert torch.equal(matching.sort(-1).values.cpu(), torch.arange(cost.shape[-1]).expand(cost.shape[:2]))


@engines
@dtypes
@given(q=st.integers(1, 6), seed=st.integers(0, 2**31), kind=st.sampled_from(sorted(KINDS)))
@settings(deadline=None, max_examples=15)
def test_engines_against_brute_force(engine, dtype, q, seed, kind):
    """Least totals, equal to the last bit: sums of a few costs of these types are exact in float64.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    cost = KINDS[kind](5, q, torch.Generator().manual_seed(seed)).to(dtype)
    matching = engine(cost)
    assert_matchings(matching, cost)
    torch.testing.assert_close(totals(cost, matching), least_totals(cost), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("engine", [permutations, scipy_loop, numba_param, torch_batched])
@pytest.mark.parametrize("kind", KINDS)
def test_engines_against_all_permutations_of_seven(engine, kind, generator):
    """Checks: ConPreDiff empirical Wasserstein distance"""
    cost = KINDS[kind](20, 7, generator)
    torch.testing.assert_close(totals(cost, engine(cost)), least_totals(cost), rtol=1e-15, atol=1e-15)


@large_engines
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [9, 16, 24, 48])
def test_engines_against_scipy(engine, kind, q, generator):
    """Checks: ConPreDiff empirical Wasserstein distance"""
    cost = KINDS[kind](25, q, generator)
    matching = engine(cost)
    assert_matchings(matching, cost)
    torch.testing.assert_close(totals(cost, matching), least_totals(cost), rtol=1e-14, atol=1e-14)


@engines
@pytest.mark.parametrize("q", [2, 5, 7])
def test_sixty_orders_of_magnitude(engine, q, generator):
    """Within one problem, and from problem to problem."""
    within = 10 ** (60 * torch.rand(20, q, q, generator=generator, dtype=torch.float64) - 30)
    scales = 10 ** (60 * torch.rand(20, 1, 1, generator=generator, dtype=torch.float64) - 30)
    cost = torch.cat([within, scales * torch.rand(20, q, q, generator=generator, dtype=torch.float64)])
    torch.testing.assert_close(totals(cost, engine(cost)), least_totals(cost), rtol=1e-13, atol=0)


@engines
@pytest.mark.parametrize("q", [2, 5, 7])
def test_costs_at_the_end_of_the_range(engine, q, generator):
    """Their sums overflow; the matching is that of smaller ones."""
    cost = torch.randn(10, q, q, generator=generator, dtype=torch.float64)
    large = cost * (torch.finfo(torch.float64).max / cost.abs().max())
    assert torch.equal(linear_assignment(large, engine=engine), engine(cost))


@engines
def test_the_least_of_problems(engine, generator):
    """None at all; problems of one row."""
    assert engine(torch.zeros(0, 4, 4)).shape == (0, 4)
    assert linear_assignment(torch.zeros(3, 0, 4, 4), engine=engine).shape == (3, 0, 4)
    assert torch.equal(engine(torch.randn(3, 1, 1, generator=generator)), torch.zeros(3, 1, dtype=torch.int64))


@engines
def test_any_layout_in_memory(engine, generator):
    cost = torch.rand(6, 5, 8, 5, generator=generator)
    expected = engine(cost[:, :, 3].transpose(1, 2).contiguous())
    assert torch.equal(engine(cost[:, :, 3].transpose(1, 2)), expected)
    assert torch.equal(engine(cost[:, :, 3].transpose(1, 2).flip(0)[::2]), expected.flip(0)[::2])


@engines
def test_engines_leave_costs_alone_and_build_no_graph(engine, generator):
    cost = torch.rand(6, 5, 5, generator=generator, requires_grad=True)
    before = cost.detach().clone()
    assert not engine(cost).requires_grad
    assert torch.equal(cost.detach(), before)


@engines
@pytest.mark.parametrize("kind", ["uniform", "integers"])
def test_neither_neighbours_nor_repetition_change_a_matching(engine, kind, generator):
    """Ties included."""
    cost = KINDS[kind](40, 5, generator)
    assert torch.equal(torch.cat([engine(problem[None]) for problem in cost]), engine(cost))
    assert torch.equal(linear_assignment(cost, engine=engine, chunk=7), engine(cost))


@needs_numba
@pytest.mark.parametrize("kind", KINDS)
def test_two_engines_settle_ties_alike(kind, generator):
    cost = KINDS[kind](50, 9, generator)
    assert torch.equal(numba_threads(cost), torch_batched(cost))


@pytest.mark.parametrize("q", [4, 5, 9])
def test_every_engine_gives_the_same_loss(q, generator, monkeypatch):
    a, b = torch.randn(2, 50, q, 3, generator=generator)
    losses = []
    for engine in [
        scipy_loop,
        torch_batched,
        *[permutations] * (q < 9),
        *[numba_threads] * threads_module.NUMBA_IS_INSTALLED,
    ]:
        monkeypatch.setattr(transport, "linear_assignment", partial(linear_assignment, engine=engine))
        losses.append(wasserstein(a, b))
    assert all(torch.equal(loss, losses[0]) for loss in losses)


@pytest.mark.slow
def test_compilers_see_one_operation():
    """Without a break of the graph; in a child, since checks of shapes break it."""
    command = [sys.executable, Path(__file__).with_name("compiled_distance.py"), "4", "9"]
    subprocess.run(command, check=True)


@needs_numba
def test_as_many_threads_as_torch(generator, monkeypatch):
    """One takes the calling thread alone; the matching is the same."""
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 1)
    cost, used = torch.rand(3000, 9, 9, generator=generator), []
    pool = "context_prediction.assignment.threads.ThreadPoolExecutor"
    real = __import__("concurrent.futures").futures.ThreadPoolExecutor
    monkeypatch.setattr(pool, lambda workers: used.append(workers) or real(workers))
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(numba_threads(cost))
    assert used == [1, 2]  # beside the calling thread
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@needs_numba
def test_several_threads_may_ask_at_once(generator, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 1)
    costs = [torch.rand(1500, 9, 9, generator=generator) for _ in range(4)]
    found = [None] * 4

    def ask(k):
        found[k] = numba_threads(costs[k])

    askers = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert all(torch.equal(matching, torch_batched(cost)) for matching, cost in zip(found, costs, strict=True))


def ask_in_a_child(cost, expected, pipe):
    pipe.send(torch.equal(numba_threads(cost), expected))


@needs_numba
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_may_ask(generator, monkeypatch):
    """After the parent has used its threads, as a data loader's workers would."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 1)
    cost = torch.rand(1500, 9, 9, generator=generator)
    expected = numba_threads(cost)
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=ask_in_a_child, args=(cost, expected, sender))
    child.start()
    assert receiver.poll(60) and receiver.recv()
    child.join()
    assert child.exitcode == 0


@needs_numba
def test_where_nothing_can_be_kept_on_disk(monkeypatch):
    """Compiled for this process alone."""
    import numba

    from context_prediction.assignment import numba_kernel

    real = numba.njit

    def no_place(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    with monkeypatch.context() as patch:
        patch.setattr(numba, "njit", no_place)
        kernel = numba_kernel.compiled(lambda x: x + 1)
    assert kernel(41) == 42


@needs_numba
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_kernel_ends_on_values_that_are_not_finite(bad, generator):
    """With an error or with some permutation; `linear_assignment` keeps them away."""
    for _ in range(50):
        cost = torch.where(torch.rand(1, 6, 6, generator=generator) < 0.6, bad, 1.0)
        try:
            assert_matchings(numba_threads(cost), cost)
        except ValueError as error:
            assert "holds values that are not finite" in str(error)


def test_the_import_is_light():
    code = "import sys, context_prediction; print([m for m in ('numba', 'scipy.optimize') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("device", "q", "numba", "triton", "engine"),
    [
        (CPU, 4, True, True, permutations),
        (CPU, 5, True, True, numba_threads),
        (CPU, 5, False, True, permutations),
        (CPU, 6, False, True, scipy_loop),
        (CPU, 300, True, True, numba_threads),
        (CUDA, 5, True, True, permutations),
        (CUDA, 6, True, True, triton_programs),
        (CUDA, 128, True, True, triton_programs),
        (CUDA, 129, True, True, torch_batched),
        (CUDA, 6, True, False, torch_batched),
        (torch.device("mps"), 9, True, False, numba_threads),
        (torch.device("mps"), 9, False, False, scipy_loop),
    ],
)
def test_choice(device, q, numba, triton, engine, monkeypatch):
    monkeypatch.setattr(solver, "NUMBA_IS_INSTALLED", numba)
    monkeypatch.setattr(solver, "triton_is_usable", lambda: triton)
    assert choose(device, q) is engine


def test_scipy_takes_one_block_of_problems_after_another(generator, monkeypatch):
    monkeypatch.setattr(sequential, "BLOCK", 80)
    cost = torch.rand(9, 6, 6, generator=generator)
    assert torch.equal(totals(cost, scipy_loop(cost)), least_totals(cost))


def test_the_smallest_and_the_largest_problems(generator):
    assert linear_assignment(torch.zeros(2, 1, 1)).tolist() == [[0], [0]]
    cost = torch.rand(2, 8, 8, generator=generator)
    torch.testing.assert_close(totals(cost, permutations(cost)), least_totals(cost))


def test_what_another_thread_finds_not_finite_is_told():
    taken = threading.Event()

    def solve(problems, columns):
        if threading.current_thread() is threading.main_thread():
            return taken.wait(60)
        taken.set()
        return False

    assert not threads_module._side_by_side(solve, np.zeros((16, 2, 2)), np.zeros((16, 2)), 2)


def test_a_named_engine_is_used():
    cost = torch.rand(2, 3, 4, 4)
    seen = []
    linear_assignment(cost, engine=lambda part: seen.append(part.shape) or scipy_loop(part), chunk=4)
    assert seen == [(4, 4, 4), (2, 4, 4)]


def test_bad_input_is_refused(unchecked_shapes, monkeypatch):
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\): its last two axes must be equal"):
        linear_assignment(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        linear_assignment(torch.tensor(1.0))
    with pytest.raises(ValueError, match="chunk is 0"):
        linear_assignment(torch.zeros(2, 3, 3), chunk=0)
    with pytest.raises(ValueError, match="9! permutations"):
        permutations(torch.zeros(1, 9, 9))
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"context-prediction\[fast\]"):
        numba_threads(torch.zeros(1, 9, 9))


def test_triton_asks_for_a_device_and_a_size(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    with pytest.raises(ValueError, match="cost is on cpu"):
        triton_programs(torch.zeros(1, 9, 9))
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="needs Triton"):
        triton_programs(torch.zeros(1, 9, 9))


@pytest.mark.parametrize(("engine", "library"), [(triton_programs, "triton"), (numba_threads, "numba")])
def test_kernels_in_the_interpreter(engine, library, generator, tmp_path):
    """As Python, neither of them compiled: the choices of `torch_batched`, and least totals.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    pytest.importorskip(library, reason=f"{library} is not installed")
    costs = {f"{kind} {q}": make(2, q, generator) for kind, make in KINDS.items() for q in (1, 3, 6)}
    costs |= {f"{dtype} 5": costs["uniform 6"][:, :5, :5].to(dtype) for dtype in (torch.float64, torch.bfloat16)}
    costs |= {"uniform 9": KINDS["uniform"](2, 9, generator), "integers 9": KINDS["integers"](2, 9, generator)}
    costs |= {"none 6": torch.zeros(0, 6, 6)}
    save_file({name: cost.contiguous() for name, cost in costs.items()}, tmp_path / "costs")
    script = Path(__file__).with_name("kernels_interpreted.py")
    command = [sys.executable, "-W", "error::RuntimeWarning", script, engine.__name__]
    subprocess.run([*command, tmp_path / "costs", tmp_path / "matchings"], check=True)
    matchings = load_file(tmp_path / "matchings")
    for name, cost in costs.items():
        assert_matchings(matchings[name], cost)
        assert torch.equal(matchings[name], torch_batched(cost)), name


@pytest.mark.parametrize("capability", [80, 90])
def test_triton_kernel_compiles_without_a_gpu(capability, tmp_path, monkeypatch):
    """To machine code for that compute capability, with no multiply-add fused in the sums."""
    triton = pytest.importorskip("triton", minversion="3.3", reason="Triton's compiler is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from context_prediction.assignment.triton_kernel import solve

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    signature = {"costs": "*fp32", "matching": "*i64", "q": "i32", "WIDTH": "constexpr"}
    source = ASTSource(fn=solve, signature=signature, constexprs={"WIDTH": 16})
    options = {"num_warps": 1, "enable_fp_fusion": False}
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert len(binary.asm["cubin"]) > 0 and "fma.rn.f64" not in binary.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1, 4, 5, 6, 9, 24, 48, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_engines_on_cuda(kind, q, dtype, generator):
    """Triton, batched torch and permutations on the GPU find what SciPy finds, and settle ties as the CPU does.

    Checks: ConPreDiff empirical Wasserstein distance
    """
    cost = KINDS[kind](30, q, generator).to(dtype)
    expected, on_cpu = least_totals(cost), torch_batched(cost)
    for engine in [triton_programs, torch_batched, *[permutations] * (q <= 5)]:
        matching = engine(cost.cuda())
        assert_matchings(matching, cost.cuda())
        torch.testing.assert_close(totals(cost, matching.cpu()), expected, rtol=1e-14, atol=1e-14)
        assert engine is permutations or torch.equal(matching.cpu(), on_cpu)
    assert linear_assignment(cost.cuda()).is_cuda


@pytest.mark.gpu
def test_more_problems_than_a_chunk_on_cuda(generator):
    cost = torch.rand(70_000, 9, 9, generator=generator).cuda()
    assert torch.equal(linear_assignment(cost), torch_batched(cost))
