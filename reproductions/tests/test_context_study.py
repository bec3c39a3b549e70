"""The study of the context loss: its pairs, its ablations, its tests, and the whole of it at smoke size."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import ttest_rel

from context_prediction import Border, chamfer, energy_distance
from reproductions.artefacts import plain, upstream
from reproductions.experiment import AblatedContext, Beyond, Context, Fading, Family, Matching, Model, Reading
from reproductions.reporting.findings import Better, MetricInfo
from reproductions.reporting.paired import compared, holm
from reproductions.stages.context import WithContext
from reproductions.stages.equipping import CodeVectors, Equipped, Patches
from reproductions.studies import context_study
from reproductions.studies.context_pairs import ABLATIONS, DEFAULT, SECONDS, STEPS, WITHOUT, Studied, goals_of
from reproductions.studies.context_study_options import ContextStudyOptions
from reproductions.studies.context_study_report import LOSS

SMOKE = ContextStudyOptions(profile="smoke", data="digits", workers=0)
LOWER = MetricInfo("x", Better.LOWER, "")


@pytest.fixture(scope="module")
def digits() -> Studied:
    return context_study.studied("digits", SMOKE)


@pytest.fixture
def denoised() -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    return SimpleNamespace(
        t=torch.tensor([1, 5, 10]),
        loss=torch.rand(3, generator=generator),
        features=torch.randn(3, 16, 8, 8, generator=generator),
        target=torch.randn(3, 4, 8, 8, generator=generator),
        estimate=torch.randn(3, 4, 8, 8, generator=generator, requires_grad=True),
    )


def loss_under(context: Context, denoised: SimpleNamespace) -> WithContext:
    torch.manual_seed(0)
    signal = torch.linspace(1, 0, 11, dtype=torch.float64).square()
    return WithContext(context, features=16, target=4, signal=signal)


def test_the_context_loss_by_default_keeps_its_hash_and_its_name() -> None:
    """Oracle: what is hashed of trainings that are kept, and how their stages are called."""
    assert asdict(Context()) == {"stride": 3, "samples": 4, "latent": 32, "weight": 0.1}
    assert asdict(Model(Family.LDM)) == {"family": "LDM", "context": None, "samples": None}
    names = [context.name for context in (Context(), Context(stride=1), Context(weight=1.0))]
    assert names == ["3", "1", "3 weight 1.0"]
    assert AblatedContext(fading=Fading.LINEAR).name == "3 fading linear"


def test_nothing_ablated_is_the_default(denoised: SimpleNamespace) -> None:
    """Oracle: the default's losses, from the same first weights and draws."""
    found = [
        loss_under(context, denoised)(denoised, denoised.target, generator=torch.Generator().manual_seed(1))
        for context in (Context(), AblatedContext())
    ]
    assert torch.equal(found[0]["loss"], found[1]["loss"])


def test_each_ablation_is_what_it_says(denoised: SimpleNamespace) -> None:
    """Oracle: the package's objects, and the weights by hand.

    Checks: ConPreDiff time weight
    """
    t = torch.tensor([0, 5, 10])
    weights = {fading: loss_under(AblatedContext(fading=fading), denoised).weight(t).tolist() for fading in Fading}
    assert weights[Fading.SIGNAL] == pytest.approx([0.1, 0.025, 0])
    assert weights[Fading.LINEAR] == pytest.approx([0.1, 0.05, 0])
    assert weights[Fading.CONSTANT] == pytest.approx([0.1, 0.1, 0.1])
    assert loss_under(AblatedContext(distance=Matching.ENERGY), denoised).context.distance is energy_distance
    assert loss_under(AblatedContext(distance=Matching.CHAMFER), denoised).context.distance is chamfer
    around = loss_under(AblatedContext(beyond=Beyond.OPPOSITE), denoised).context.neighbourhood
    assert around.border is Border.CIRCULAR
    assert len({plain(context).__repr__() for context in (DEFAULT, *ABLATIONS.values())}) == 1 + len(ABLATIONS)


def test_the_head_may_read_the_estimate(denoised: SimpleNamespace) -> None:
    """Oracle: the gradient, which reaches the estimate and not the features; the head is as wide as it was."""
    features = denoised.features.requires_grad_()
    signal = torch.ones(11, dtype=torch.float64)
    both = WithContext(
        AblatedContext(reads=Reading.ESTIMATE),
        features=4,
        target=4,
        signal=signal,
        reads=lambda denoising: Patches(1).expected(denoising.estimate),
        width=16,
    )
    both(denoised, denoised.target, generator=torch.Generator().manual_seed(1))["loss"].backward()
    assert denoised.estimate.grad.abs().sum() > 0
    assert features.grad is None
    assert both.context.decoder.trunk.project.weight.shape == (16, 4)


def test_expected_code_vectors() -> None:
    """Oracle: certain estimates are the tokens' own vectors, others the weighted mean."""
    codes = torch.randn(5, 3)
    vectors, tokens = CodeVectors(codes, (2, 3)), torch.randint(5, (2, 6))
    certain = torch.nn.functional.one_hot(tokens, 5).float().log()
    torch.testing.assert_close(vectors.expected(certain), vectors(tokens))
    half = torch.tensor([0.5, 0.5, 0, 0, 0]).log().expand(1, 6, 5)
    torch.testing.assert_close(vectors.expected(half)[0, :, 1, 2], (codes[0] + codes[1]) / 2)


def test_pairs_differ_in_the_context_loss_alone(digits: Studied) -> None:
    """Oracle: settings and inputs of both trainings, compared; at equal seconds also the number of steps."""
    pairs = digits.pairs({Family.DDPM: 1.25, Family.VQ_DIFFUSION: 1.5})
    for each in pairs.values():
        assert [pair.name for pair in each] == [STEPS, SECONDS, *ABLATIONS]
        for pair in each:
            ours, theirs = (digits.ground.trained(model, 1) for model in (pair.ours, pair.theirs))
            assert isinstance(ours.model.settings, Equipped)
            same = ours.training.denoiser == theirs.training.denoiser
            assert same == (pair.name != SECONDS)
            longer = replace(ours.training.denoiser.training, samples=theirs.training.denoiser.training.samples)
            assert longer == theirs.training.denoiser.training
            assert {k: s.digest for k, s in ours.model.inputs.items()} == {
                k: s.digest for k, s in theirs.model.inputs.items()
            }


@pytest.mark.parametrize(("ratio", "steps"), [(1.5, 6), (1.1, 4), (0.9, 4)])
def test_equal_seconds_are_whole_steps_and_no_fewer(digits: Studied, ratio: float, steps: int) -> None:
    """Four steps of the recipe times the ratio, rounded; what is as long is the same training."""
    model = digits.longer(Family.DDPM, ratio)
    trained = digits.ground.trained(model, 0)
    assert trained.training.denoiser.training.steps == steps
    assert (model == Model(Family.DDPM)) == (steps == 4)


def test_the_ratio_is_that_of_the_timed_steps(digits: Studied, tmp_path: Path) -> None:
    folder = digits.timings[Family.DDPM].folder(tmp_path)
    folder.mkdir(parents=True)
    took = {WITHOUT: {"milliseconds": 20.0}, STEPS: {"milliseconds": 25.0}}
    (folder / "timing.json").write_text(json.dumps(took))
    assert digits.ratio(Family.DDPM, tmp_path) == 1.25


def test_stages_have_names_of_their_own_and_seeds_come_in_turn(digits: Studied) -> None:
    """Oracle: names against digests, of which two that differ would write to one folder of curves."""
    runs = digits.runs(digits.pairs({Family.DDPM: 2.0, Family.VQ_DIFFUSION: 2.0}))
    goals = goals_of(runs)
    stages = upstream([*digits.timings.values(), *goals])
    assert len({stage.name for stage in stages}) == len({stage.digest for stage in stages}) == len(stages)
    seeds = [int(re.search(r"seed (\d)", stage.name)[1]) for stage in goals]
    assert seeds == sorted(seeds)
    assert len(runs) == 2 * (1 + 1 + 1 + len(ABLATIONS))


def test_differences_are_tested_in_pairs() -> None:
    """Oracles: SciPy's paired t-test; Holm's correction of a textbook's four."""
    a, b = [1.0, 2.5, 2.0, 4.0, 3.5], [0.5, 2.0, 2.2, 3.0, 2.6]
    ours, theirs = dict(enumerate(a)), dict(enumerate(b))
    (one,) = compared([(ours, theirs)])
    assert one.p == one.holm == pytest.approx(ttest_rel(a, b).pvalue)
    assert one.difference.mean == pytest.approx(0.54)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    first, second = compared([(ours, theirs), (theirs, theirs)])
    assert (second.p, second.holm, second.reading(LOWER)) == (None, None, "no test")
    assert first.holm == first.p


def test_readings_follow_the_corrected_test() -> None:
    less = {seed: 0.01 * seed for seed in range(5)}
    more = {seed: 1 + 0.011 * seed for seed in range(5)}
    (one,) = compared([(less, more)])
    assert one.reading(LOWER) == "better"
    assert one.reading(replace(LOWER, better=Better.HIGHER)) == "worse"
    assert replace(one, holm=0.05).reading(LOWER) == "not shown"
    with pytest.raises(ValueError, match="none in common"):
        compared([({0: 1.0}, {1: 1.0})])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"profile": "paper"}, "no size of the study 'paper'; choose from smoke, cpu, gpu"),
        ({"seeds": "0,0"}, "different whole numbers"),
        ({"data": "digits,digits"}, "different names"),
        ({"data": "digit"}, "did you mean 'digits'"),
    ],
)
def test_mistakes_are_named(changed: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert context_study.study(replace(SMOKE, **changed)) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_seeds_are_as_many_as_the_data_are_easy(profile: str) -> None:
    asked = replace(SMOKE, profile=profile)
    assert [len(context_study.studied(name, asked).seeds) for name in ("digits", "shapes")] == [5, 3]


def test_the_largest_size_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert context_study.study(replace(SMOKE, profile="gpu", data="digits,shapes", seeds="4", dry_run=True)) == 0
    said = capsys.readouterr().out
    assert "digits VQ-Diffusion with context 3 reads estimate seed 4 train" in said
    assert "shapes LDM with context 3 seed 4 train" in said
    assert "shapes LDM with context 3 reads" not in said


@pytest.mark.slow
def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every pair is measured under both seeds; the same command again finds all done, and says the same."""
    options = replace(SMOKE, out=tmp_path)
    assert context_study.study(options) == 0
    found = json.loads((tmp_path / "study.json").read_text())
    (data,) = found["data"]
    assert len(data["rows"]) == data["comparisons"] == 2 * (2 + len(ABLATIONS))
    for row in data["rows"]:
        for metric, said in row["differences"].items():
            ours, theirs = (data["values"][row[side]][metric]["by seed"] for side in ("ours", "theirs"))
            assert said["by seed"] == {seed: pytest.approx(ours[seed] - theirs[seed]) for seed in ours}
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "stages").glob("*/stage.json")}
    text = (tmp_path / "study.md").read_text()
    assert context_study.study(options) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "stages").glob("*/stage.json")} == before
    assert (tmp_path / "study.md").read_text() == text
    assert "No photographs were given" in text
    assert LOSS.name in text
