"""A condition: one value for all that an image is made for, alike for dropout, guidance and the networks."""

import pytest
import torch

from continuous_diffusion import Condition, ForwardProcess, Guided, Objective, Schedule, UNet
from continuous_diffusion.denoiser import joined, null_condition, replaced

LABELS = torch.tensor([2, 0])
WHOLE = Condition(
    context=torch.randn(2, 3, 6), classes=LABELS, concat=torch.randn(2, 1, 4, 4), level=torch.tensor([0, 5])
)


def everything(**changes: object) -> UNet:
    """A U-Net that reads every part of a condition; its last layer is awake."""
    arguments = {"condition_width": 6, "classes": 4, "augmented": True, "in_channels": 3} | changes
    unet = UNet(
        out_channels=2,
        channels=8,
        multipliers=(1, 2),
        residual_blocks=1,
        attention_at=(2,),
        heads=2,
        groups=4,
        **arguments,
    )
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return unet


def test_two_batches_become_one_and_rows_change_places() -> None:
    other = Condition(WHOLE.context + 1, LABELS + 1, WHOLE.concat + 1, WHOLE.level + 1)
    both = joined(WHOLE, other)
    mixed = replaced(torch.tensor([False, True]), WHOLE, other)
    for part in ("context", "classes", "concat", "level"):
        one, two = getattr(WHOLE, part), getattr(other, part)
        assert torch.equal(getattr(both, part), torch.cat([one, two]))
        assert torch.equal(getattr(mixed, part), torch.stack([one[0], two[1]]))
    assert torch.equal(joined(WHOLE.context, other.context), both.context)


def test_nothing_is_put_in_place_of_states_and_classes_alone() -> None:
    unet = everything()
    null = null_condition(unet, WHOLE)
    assert torch.equal(null.context, unet.null_condition(2, 3))
    assert null.classes.tolist() == [4, 4]
    assert null.concat is WHOLE.concat
    assert null.level is WHOLE.level


@pytest.mark.parametrize("part", ["context", "classes", "concat", "level"])
def test_every_part_matters(part: str) -> None:
    """Checks: LDM conditioning mechanisms"""
    unet, x, t = everything(), torch.randn(2, 2, 4, 4), torch.tensor([3, 9])
    parts = {name: getattr(WHOLE, name) for name in ("context", "classes", "concat", "level")}
    changed = Condition(**(parts | {part: parts[part] + 1}))
    assert (unet(x, t, changed).value - unet(x, t, WHOLE).value).abs().max() > 1e-4


def test_channels_beside_are_channels() -> None:
    unet, x, t = everything(condition_width=None, classes=None, augmented=False), torch.randn(2, 2, 4, 4), LABELS + 1
    beside = unet(x, t, Condition(concat=WHOLE.concat)).value
    assert torch.equal(beside, unet(torch.cat([x, WHOLE.concat], 1), t).value)


def test_guidance_takes_away_class_and_states_in_one_batch() -> None:
    """Checks: Classifier-free Guidance Eq. 6"""
    unet, x, t = everything(), torch.randn(2, 2, 4, 4), torch.tensor([3, 9])
    guided = Guided(unet, 3.0)
    absent = Condition(unet.null_condition(2, 3), torch.tensor([4, 4]), WHOLE.concat, WHOLE.level)
    without, given = unet(x, t, absent).value, unet(x, t, WHOLE).value
    torch.testing.assert_close(guided(x, t, WHOLE).value, without + 3 * (given - without), atol=1e-5, rtol=1e-4)
    assert guided.null_class == 4


def test_dropout_leaves_the_image_beside() -> None:
    """With every row dropped, the loss is that of the null condition."""
    unet, clean, t = everything(), torch.randn(2, 2, 4, 4), torch.tensor([3, 9])
    process = ForwardProcess(Schedule.cosine(10))
    absent = null_condition(unet, WHOLE)
    losses = [
        Objective(unet, process, condition_dropout=rate)(
            clean, given, t=t, generator=torch.Generator().manual_seed(1)
        ).loss
        for rate, given in ((1.0, WHOLE), (0.0, absent))
    ]
    assert torch.equal(*losses)


def test_images_beside_are_never_dropped() -> None:
    unet = everything(condition_width=None, classes=None, augmented=False)
    objective = Objective(unet, ForwardProcess(Schedule.cosine(10)), condition_dropout=1.0)
    clean, t = torch.randn(2, 2, 4, 4), torch.tensor([3, 9])
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    given = Condition(concat=WHOLE.concat)
    undropped = Objective(unet, ForwardProcess(Schedule.cosine(10)), condition_dropout=0.0)
    assert torch.equal(
        objective(clean, given, t=t, generator=seeds[0]).loss, undropped(clean, given, t=t, generator=seeds[1]).loss
    )


def test_wrong_conditions_are_named() -> None:
    with pytest.raises(ValueError, match=r"different batches: \{'context': 2, 'classes': 3\}"):
        Condition(context=torch.zeros(2, 1, 4), classes=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="classes is there in one of two"):
        joined(WHOLE, Condition(WHOLE.context, None, WHOLE.concat, WHOLE.level))
    with pytest.raises(ValueError, match="has no null_class"):
        null_condition(everything(null_class=False), WHOLE)
    with pytest.raises(ValueError, match="nothing to be guided by"):
        Guided(everything(), 2.0)(torch.zeros(2, 2, 4, 4), LABELS + 1, Condition(concat=WHOLE.concat))
    with pytest.raises(ValueError, match="the condition has no context"):
        Guided(everything(), 2.0, null=torch.zeros(1, 3, 6))(
            torch.zeros(2, 2, 4, 4), LABELS + 1, Condition(classes=LABELS)
        )


@pytest.mark.parametrize("part", ["context", "classes", "level"])
def test_a_part_that_is_missing_or_superfluous_is_named(part: str) -> None:
    x, t = torch.zeros(2, 2, 4, 4), LABELS + 1
    parts = {name: getattr(WHOLE, name) for name in ("context", "classes", "concat", "level")}
    with pytest.raises(ValueError, match="is missing: this network was built with"):
        everything()(x, t, Condition(**(parts | {part: None})))
    option = {"context": {"condition_width": None}, "classes": {"classes": None}, "level": {"augmented": False}}[part]
    with pytest.raises(ValueError, match="was given to a network that does not read it"):
        everything(**option)(x, t, WHOLE)


def test_channels_beside_of_another_number_or_size_are_named() -> None:
    x, t = torch.zeros(2, 2, 4, 4), LABELS + 1
    with pytest.raises(ValueError, match="2 channels and 2 of condition.concat, this U-Net reads in_channels=3"):
        everything()(x, t, Condition(WHOLE.context, LABELS, torch.zeros(2, 2, 4, 4), WHOLE.level))
    with pytest.raises(ValueError, match=r"condition.concat: size \(8, 8\) beside x_t of size 4 x 4"):
        everything()(x, t, Condition(WHOLE.context, LABELS, torch.zeros(2, 1, 8, 8), WHOLE.level))
    with pytest.raises(ValueError, match="condition.classes: 0 to 5, expected 0..4"):
        everything()(x, t, Condition(WHOLE.context, torch.tensor([0, 5]), WHOLE.concat, WHOLE.level))
