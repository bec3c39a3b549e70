"""Tables of models trained on pictures: their plans, their mistakes, and each at smoke size."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reproductions import costs, figure4, figure5, sampled_rows, table2, table3
from reproductions.artefacts import Desk, Stage, plain, upstream
from reproductions.conditioning import Conditioning, Kind
from reproductions.data import Split
from reproductions.experiment import Context, DirectContext, Family, Model
from reproductions.modelling import Ground
from reproductions.picture_tables import grounds_of, names_of, sizes_named
from reproductions.reporting import charts
from reproductions.reporting.findings import RowResult, summarise
from reproductions.runner import Silence
from reproductions.stages import painting, scoring, timing
from reproductions.stages.autoencoding import PRESETS
from reproductions.stages.equipping import CodeVectors, Equipped, Patches
from reproductions.table_options import InpaintingTableOptions, TableOptions
from reproductions.table_profiles import SIZES, sizes_on
from reproductions.table_report import metrics_of

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


def test_the_paper_s_data_have_recipes_of_their_own() -> None:
    """Oracle: batch and iterations as LDM prints them for each data set."""
    trained = {
        title: sizes_on(SIZES["paper"], title).ldm.training
        for title in ("ffhq256", "CelebA-HQ", "lsun_bedrooms", "lsun-churches", "my-pictures")
    }
    assert [(each.batch, each.steps) for each in trained.values()] == [
        (42, 635_000), (48, 410_000), (48, 1_900_000), (96, 500_000), (48, 410_000),
    ]  # fmt: skip
    assert sizes_on(SIZES["paper"], "lsun-churches").latents.network["latent_channels"] == 4
    assert sizes_on(SMOKE, "ffhq") == SMOKE


def test_improved_vq_diffusion_draws_from_what_vq_diffusion_trained() -> None:
    ground = grounds()["shapes"]
    plain_model, improved = Model(Family.VQ_DIFFUSION), Model(Family.IMPROVED_VQ_DIFFUSION)
    assert ground.trained(plain_model, 0).model.folder(Path()) == ground.trained(improved, 0).model.folder(Path())
    assert ground.images(plain_model, 0).digest != ground.images(improved, 0).digest
    assert ground.walk(Family.IMPROVED_VQ_DIFFUSION).guidance == 1
    told = replace(ground, told=Conditioning(Kind.CLASS, ("a", "b")))
    assert told.walk(Family.IMPROVED_VQ_DIFFUSION).guidance == SMOKE.vq_diffusion.guidance
    assert told.walk(Family.VQ_DIFFUSION).guidance == 1


COMMANDS = {
    "table2": (table2.TABLE, table2.table2, InpaintingTableOptions),
    "table3": (table3.TABLE, table3.table3, TableOptions),
    "figure4": (figure4.TABLE, figure4.figure4, TableOptions),
    "figure5": (figure5.TABLE, figure5.figure5, TableOptions),
}


@pytest.mark.parametrize(
    ("profile", "name"),
    [("smoke", "table3"), ("cpu", "table2"), ("gpu", "figure5"), ("paper", "figure4")],
)
def test_every_profile_can_be_planned(
    profile: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "once", lambda *_: 1)
    _, run, options = COMMANDS[name]
    assert run(options(profile=profile, data="shapes,digits", dry_run=True, seeds="0,1")) == 0
    said = capsys.readouterr().out
    assert f"shapes {'DDPM' if name == 'table2' else 'LDM'} with context 3 seed 1 train" in said
    assert "digits LDM seed 0 train" in said
    assert "done" not in said
    assert "device-hours" in said


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
        ({"devices": 0}, "--devices must be at least 1"),
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
    codes = {"tokens": torch.randint(32, (1, 6, 64)), "grid": torch.tensor([8, 8]), "codes": torch.tensor(32)}
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
    space = scoring.Space()
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
    assert found["FID[pixels-8]"]["low"] <= found["FID[pixels-8]"]["high"]


def test_data_sets_are_listed() -> None:
    assert names_of("a/b, digits") == ["a/b", "digits"]


def test_the_paper_s_table_2_is_cited_whole() -> None:
    """Oracle: the paper's numbers, counted and picked; ConPreDiff is best in four columns of six on faces.

    Checks: ConPreDiff Table 2
    """
    planned = table2.plan(table2.TABLE.measured, grounds(), (0,))
    cited = {row.approach: row.paper for row in planned.rows if row.method is None}
    assert len(cited) == 7 + 5
    assert cited["RePaint, CelebA-HQ"]["LPIPS Altern."] == 0.009
    assert cited["ConPreDiff, ImageNet"] == dict(
        zip(table2.LPIPS, (0.098, 0.057, 0.129, 0.107, 0.285, 0.506), strict=True)
    )
    faces = {name: paper for name, paper in cited.items() if name.endswith("CelebA-HQ")}
    best = [min(faces, key=lambda name: faces[name][column]) for column in table2.LPIPS]
    assert [name.split(",")[0] for name in best] == ["ConPreDiff"] * 3 + ["RePaint", "LaMa", "ConPreDiff"]


def test_masks_that_keep_no_latent_are_left_out() -> None:
    kept = {family: [kind.name for kind in table2.masks_for(family, SMOKE)] for family in (Family.DDPM, Family.LDM)}
    assert len(kept[Family.DDPM]) == 6
    assert set(kept[Family.DDPM]) - set(kept[Family.LDM]) == {"super-resolve 2x", "alternating lines"}


def test_every_model_fills_in_the_same_pictures_behind_the_same_masks() -> None:
    planned = table2.plan(table2.TABLE.measured, grounds(), (0, 1))
    found = {
        (stage.settings.mask.name, stage.settings.how)
        for runs in planned.runs.values()
        for run in runs.values()
        for key, stage in run.scores.inputs.items()
        if key.startswith("filled")
    }
    assert len(found) == 6
    repainted = [
        run.scores.inputs["filled half"]
        for name in ("RePaint", "ConPreDiff")
        for run in planned.runs[f"{name}, shapes"].values()
    ]
    assert all(stage.settings.jumps for stage in repainted)
    assert not planned.runs["LDM, mixing, shapes"][0].scores.inputs["filled half"].settings.jumps


def test_distances_of_filled_in_pictures(desk: Desk, tmp_path: Path) -> None:
    """Oracle: originals are at distance 0 from themselves, and noise is not."""
    real = Split.load(desk.inputs["data"] / "held_out").images
    masks = table2.REPAINT_MASKS[:2]
    noise = torch.randint(256, real.shape, dtype=torch.uint8)
    for name, images in {"same": real, "other": noise}.items():
        (tmp_path / name).mkdir()
        save_file({"images": images}, tmp_path / name / "images.safetensors")
    inputs = {"data": desk.inputs["data"], f"filled {masks[0].name}": tmp_path / "same"}
    inputs |= {f"filled {masks[1].name}": tmp_path / "other"}
    settings = painting.Comparing(scoring.Space(), (), masks, len(real))
    painting.compare(Desk(tmp_path, settings, inputs, Silence(), tmp_path))
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found[f"distance[pixels-8] {masks[0].name}"]["value"] == 0
    assert found[f"distance[pixels-8] {masks[1].name}"]["value"] > 0.01
    assert painting.HIDDEN in found


def test_psnr_of_what_was_hidden_counts_the_hidden_part_alone() -> None:
    """Oracle: squared errors of the hidden pixels, averaged over them."""
    real = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    masks = torch.rand(2, 1, 8, 8) < 0.4
    fake = torch.where(masks, real // 2, real)
    error = ((real.double() - fake.double()) / 255).square()
    hidden = torch.stack([each[:, mask[0]].mean() for each, mask in zip(error, masks, strict=True)])
    assert torch.allclose(painting.hidden_psnr(real, fake, masks), -10 * torch.log10(hidden), atol=1e-6)
    assert painting.hidden_psnr(real, real, masks).tolist() == [painting.IDENTICAL] * 2


def test_scores_stand_in_the_order_of_the_paper_s_columns() -> None:
    names = [f"distance[shapes] {name}" for name in ("expand", "half", "wide")] + [painting.HIDDEN]
    rows = [RowResult("a", "b", {}, {name: summarise({0: 1.0}) for name in [painting.HIDDEN, *names]})]
    found = [metric.name for metric in metrics_of(rows, table2.MEANT, table2.MASKS)]
    assert found == ["distance[shapes] wide", "distance[shapes] half", "distance[shapes] expand", painting.HIDDEN]


def test_missing_weights_of_lpips_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert table2.table2(InpaintingTableOptions(profile="smoke", lpips=(Path("nowhere"),), dry_run=True)) == 2
    assert "--lpips: there is no file nowhere" in capsys.readouterr().err


def test_strides_and_decodings_are_timed_in_turn(desk: Desk, tmp_path: Path) -> None:
    """Every variant is trained from the same pictures, and only the head grows: of direct decoding with the stride.

    Checks: ConPreDiff Figure 4
    """
    planned = figure4.plan(figure4.TABLE.measured, grounds(), (0,))
    (stage,) = planned.extras.values()
    assert set(stage.settings.variants) == {row.approach for row in figure4.TABLE.rows}
    variants = {name: stage.settings.variants[name] for name in (
        "stride 0", "stride 1, distribution decoding", "stride 3, distribution decoding",
        "stride 1, direct decoding", "stride 3, direct decoding",
    )}  # fmt: skip
    save_file(
        {"mean": torch.randn(1, 6, 4, 8, 8), "deviation": torch.zeros(1, 6, 1, 1, 1)}, tmp_path / "clean.safetensors"
    )
    short = _two_steps(replace(stage, settings=stage.settings.training))
    settings = replace(stage.settings, training=short, variants=variants, steps=2)
    timing.measure(Desk(tmp_path, settings, {"clean": tmp_path}, Silence(), tmp_path))
    found = json.loads((tmp_path / "timing.json").read_text())
    assert all(facts["low"] <= facts["milliseconds"] <= facts["high"] for facts in found.values())
    none, *heads = (found[name]["head parameters"] for name in variants)
    assert none == 0
    assert heads[0] == heads[1]
    width = _two_steps(replace(stage, settings=short)).denoiser.network["channels"]
    assert heads[3] - heads[2] == (48 - 8) * 4 * (width + 1)


def test_bars_show_every_seed_and_its_interval() -> None:
    """Oracle: what the axes hold."""
    figure, (axes,) = charts.panels(1, 4.0, 3.0)
    charts.bars(
        axes, ["a", "b"], {"without": [summarise({0: 1.0, 1: 3.0}), None], "with": [None, summarise({0: 5.0})]}, "x"
    )
    assert sorted(patch.get_height() for patch in axes.patches) == [2.0, 5.0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    assert charts.png(figure).startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(COMMANDS))
def test_smoke(name: str, tmp_path: Path) -> None:
    """Every row is measured, and the report says what it is."""
    table, run, options = COMMANDS[name]
    assert run(options(profile="smoke", out=tmp_path)) == 0
    found = json.loads((tmp_path / f"{name}.json").read_text())
    measured = {row["approach"] for row in found["rows"] if row["measured"]}
    assert measured == {f"{row.approach}, shapes" for row in table.measured}
    assert not found["comparable"]
    assert (tmp_path / ("half.png" if name == "table2" else "samples-1.png")).stat().st_size > 0
    assert re.search("not comparable with the paper", (tmp_path / f"{name}.html").read_text(), re.IGNORECASE)
