"""Tables of models trained on pictures: their plans, their mistakes, and each at smoke size."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reproductions import figure5, sampled_rows, table3
from reproductions.artefacts import Desk, Stage, plain, upstream
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.experiment import Context, DirectContext, Family, Model
from reproductions.modelling import Ground
from reproductions.picture_tables import grounds_of, names_of, sizes_named, space_of
from reproductions.runner import Silence
from reproductions.stages import scoring
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.equipping import CodeVectors, Equipped, Patches
from reproductions.table_options import TableOptions
from reproductions.table_profiles import SIZES

SMOKE = SIZES["smoke"]


def grounds(data: str = "shapes", profile: str = "smoke") -> dict[str, Ground]:
    return grounds_of(sizes_named(profile), TableOptions(data=data, profile=profile))


def test_the_paper_s_table_3_is_cited_whole() -> None:
    """Oracle: the paper's numbers, counted and picked.

    Checks: ConPreDiff Table 3
    """
    planned = table3.plan(table3.TABLE.measured, grounds(), (0,))
    cited = {row.approach: row.paper for row in planned.rows if row.method is None}
    assert len(cited) == 7 + 7 + 8 + 8
    assert cited["ConPreDiff, LSUN-Bedrooms"] == {"FID": 1.12, "Precision": 0.73, "Recall": 0.59}
    assert cited["ProjectedGAN, LSUN-Churches"] == {"FID": 1.59, "Precision": 0.61, "Recall": 0.44}
    assert cited["ImageBART, FFHQ"] == {"FID": 9.57}
    assert [row.approach for row in planned.rows if row.method is not None] == [
        "DDPM, shapes", "ImageBART, shapes", "LDM, shapes", "ConPreDiff, shapes",
    ]  # fmt: skip


def test_rows_on_the_paper_s_data_stand_beside_its_numbers() -> None:
    faces = {
        "my-ffhq256": replace(grounds()["shapes"], settings=replace(grounds()["shapes"].settings, name="my-ffhq256"))
    }
    planned = table3.plan(table3.TABLE.measured, faces, (0,))
    ours = {row.approach: row.paper for row in planned.rows if row.method is not None}
    assert ours["LDM, my-ffhq256"] == {"FID": 4.98, "Precision": 0.73, "Recall": 0.5}
    assert ours["DDPM, my-ffhq256"] == {}
    assert "LDM, FFHQ" not in {row.approach for row in planned.rows}
    assert "StyleGAN, FFHQ" in {row.approach for row in planned.rows}


def test_pairs_differ_in_the_context_loss_alone() -> None:
    """Oracle: settings and inputs of both trainings, compared.

    Checks: ConPreDiff Figure 5
    """
    rows = {row.approach: row for row in figure5.TABLE.rows}
    assert len(rows) == 2 * len(Family)
    ground = grounds()["shapes"]
    for family in Family:
        base, equipped = rows[str(family)], rows[f"{family} + context"]
        assert equipped.baseline == base.approach
        for one, other in zip(
            ground.trained(base.method, 3).trainings, ground.trained(equipped.method, 3).trainings, strict=True
        ):
            assert isinstance(other.settings, Equipped)
            assert plain(other.settings.training) == plain(one.settings)
            assert {key: stage.digest for key, stage in one.inputs.items()} == {
                key: stage.digest for key, stage in other.inputs.items()
            }
        assert plain(ground.images(base.method, 3).inputs["samples"].settings) == plain(
            ground.images(equipped.method, 3).inputs["samples"].settings
        )


def test_improved_vq_diffusion_draws_from_what_vq_diffusion_trained() -> None:
    ground = grounds()["shapes"]
    plain_model, improved = Model(Family.VQ_DIFFUSION), Model(Family.IMPROVED_VQ_DIFFUSION)
    assert ground.trained(plain_model, 0).model.folder(Path()) == ground.trained(improved, 0).model.folder(Path())
    assert ground.images(plain_model, 0).digest != ground.images(improved, 0).digest
    assert ground.walk(Family.IMPROVED_VQ_DIFFUSION).guidance == 1
    told = replace(ground, told=Conditioning(Kind.CLASS, ("a", "b")))
    assert told.walk(Family.IMPROVED_VQ_DIFFUSION).guidance == SMOKE.vq_diffusion.guidance
    assert told.walk(Family.VQ_DIFFUSION).guidance == 1


@pytest.mark.parametrize("profile", list(SIZES))
@pytest.mark.parametrize("table", [table3, figure5])
def test_every_profile_can_be_planned(profile: str, table: object, capsys: pytest.CaptureFixture[str]) -> None:
    options = TableOptions(profile=profile, data="shapes,digits", dry_run=True, seeds="0,1")
    run = table.table3 if table is table3 else table.figure5
    assert run(options) == 0
    said = capsys.readouterr().out
    assert "shapes LDM with context 3 seed 1 train" in said
    assert "digits LDM seed 0 train" in said
    assert "done" not in said


def test_stages_are_shared_between_rows_and_have_names_of_their_own() -> None:
    planned = sampled_rows.plan(figure5.TABLE.measured, grounds("shapes,digits"), (0, 1))
    stages = upstream(planned.goals)
    assert sum(stage.name.endswith("autoencoder") for stage in stages) == 4
    assert len({stage.name for stage in stages}) == len(stages)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"profile": "smok"}, "no profile 'smok'.*did you mean 'smoke'"),
        ({"data": "shapez"}, "shapes"),
        ({"data": "shapes,shapes"}, "different names"),
        ({"data": ","}, "not a list of data sets"),
        ({"rows": "LDN"}, "'LDN'.*LDM"),
        ({"features": "nothing"}, "no feature space and no file 'nothing'"),
        ({"condition": "class"}, "shapes has no labels"),
        ({"seeds": "x"}, "different whole numbers"),
    ],
)
def test_mistakes_are_named(changed: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = replace(TableOptions(profile="smoke"), **changed)
    assert table3.table3(options) == 2
    assert re.search(said, capsys.readouterr().err, re.DOTALL)


def test_code_vectors_are_those_of_the_tokens() -> None:
    """Oracle: one token at a time."""
    codes = torch.randn(5, 3)
    tokens = torch.randint(5, (2, 6))
    found = CodeVectors(codes, (2, 3))(tokens)
    for b in range(2):
        for n in range(6):
            assert torch.equal(found[b, :, n // 3, n % 3], codes[tokens[b, n]])
    assert not CodeVectors(codes, (2, 3)).state_dict()


def test_patches_are_vectors_on_the_grid_of_the_features() -> None:
    images = torch.randn(2, 3, 4, 4)
    found = Patches(2)(images)
    assert torch.equal(found[0, :, 1, 0], images[0, :, 2:4, 0:2].flatten())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Pictures, an autoencoder that was not trained, and its codes."""
    root = tmp_path_factory.mktemp("desk")
    torch.manual_seed(0)
    PRESETS["vq-f4-32"].build().save_pretrained(root / "autoencoder" / "autoencoder")
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    for name in ("train", "held_out"):
        Split(images, ((),) * 6).save(root / "data" / name)
    codes = {"tokens": torch.randint(32, (1, 6, 64)), "grid": torch.tensor([8, 8]), "codes": torch.tensor(256)}
    (root / "clean").mkdir()
    save_file(codes, root / "clean" / "clean.safetensors")
    inputs = {name: root / name for name in ("data", "autoencoder", "clean")}
    return Desk(root, None, inputs, Silence(), root / "board")


@pytest.mark.parametrize("context", [Context(stride=1), DirectContext(stride=2)])
@pytest.mark.parametrize("family", [Family.DDPM, Family.VQ_DIFFUSION, Family.IMAGEBART])
def test_the_head_is_trained_beside_and_kept_apart(
    family: Family, context: Context | DirectContext, desk: Desk, tmp_path: Path
) -> None:
    """Oracle: the base training, whose files have the same names and shapes, and none of a context head."""
    ground = grounds()["shapes"]
    kept = {}
    for name, model in {"base": Model(family), "equipped": Model(family, context)}.items():
        stage = ground.trained(model, 0).trainings[0]
        folder = tmp_path / name
        folder.mkdir()
        inputs = desk.inputs if family is not Family.DDPM else {"data": desk.inputs["data"]}
        stage.run(Desk(folder, _two_steps(stage), inputs, Silence(), tmp_path / "board"))
        kept[name] = folder
    weights = {name: load_file(next(folder.glob("*/model.safetensors"))) for name, folder in kept.items()}
    assert {k: v.shape for k, v in weights["base"].items()} == {k: v.shape for k, v in weights["equipped"].items()}
    assert load_file(kept["equipped"] / "context.safetensors")
    assert not (kept["base"] / "context.safetensors").exists()
    curves = {name: json.loads((folder / "curves.json").read_text())[0] for name, folder in kept.items()}
    assert curves["equipped"]["loss/base"] == pytest.approx(curves["base"]["loss"], rel=1e-5)
    assert curves["equipped"]["loss"] > curves["equipped"]["loss/base"]


def _two_steps(stage: Stage) -> object:
    """The settings with one step of two pictures in float32."""

    def shorter(settings: object) -> object:
        if isinstance(settings, Equipped):
            return replace(settings, training=shorter(settings.training))
        part = "chain" if hasattr(settings, "chain") else "denoiser"
        recipe = getattr(settings, part)
        short = replace(recipe.training, samples=2, batch=2, precision="no")
        return replace(settings, **{part: replace(recipe, training=short)})

    return shorter(stage.settings)


def test_scores_are_named_for_their_space(desk: Desk, tmp_path: Path) -> None:
    space = space_of("pixels")
    for name, run, settings in (
        ("real", scoring.reference, scoring.Reference(space, 6)),
        ("scores", scoring.score, scoring.Scoring(space, metrics=("fid",), held_out=6)),
    ):
        (tmp_path / name).mkdir()
        run(Desk(tmp_path / name, settings, {**desk.inputs, "real": tmp_path / "real"}, Silence(), tmp_path))
    found = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert set(found) == {"FID[pixels-8]"}
    assert found["FID[pixels-8]"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["FID[pixels-8]"]["n_real"] == 6


def test_data_sets_are_listed() -> None:
    assert names_of("a/b, digits") == ["a/b", "digits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table3", "figure5"])
def test_smoke(name: str, tmp_path: Path) -> None:
    """Every row is measured, and the report says what it is."""
    table, run = {"table3": (table3.TABLE, table3.table3), "figure5": (figure5.TABLE, figure5.figure5)}[name]
    assert run(TableOptions(profile="smoke", out=tmp_path)) == 0
    found = json.loads((tmp_path / f"{name}.json").read_text())
    measured = {row["approach"] for row in found["rows"] if row["measured"]}
    assert measured == {f"{row.approach}, shapes" for row in table.measured}
    assert not found["comparable"]
    assert (tmp_path / "samples-1.png").stat().st_size > 0
    assert re.search("not comparable with the paper", (tmp_path / f"{name}.html").read_text(), re.IGNORECASE)
