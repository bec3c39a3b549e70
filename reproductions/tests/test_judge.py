"""The judge against its definition; that it learns to read is the business of a training run."""

import pytest
import torch
from torch.nn import functional as F

from reproductions.drawn.drawing import Stream
from reproductions.drawn.judge import Judge
from reproductions.drawn.shapes import SETS, SHAPES


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return Judge(SHAPES.vocabulary).eval()


@pytest.fixture(scope="module")
def drawings():
    return SHAPES.split(Stream.CHECK, 24, seed=0, resolution=32)


def test_bytes_and_floats_are_judged_alike(judge, drawings):
    as_float = drawings.images.float() / 127.5 - 1
    torch.testing.assert_close(judge.features(drawings.images), judge.features(as_float))
    assert judge.features(drawings.images).shape == (24, 128)


@pytest.mark.parametrize("resolution", [8, 32, 64])
def test_any_resolution_has_features(judge, resolution):
    assert judge.features(torch.zeros(2, 3, resolution, resolution)).shape == (2, 128)


@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_there_is_a_head_for_each_attribute(drawn):
    logits = Judge(drawn.vocabulary).eval()(torch.zeros(2, 3, 32, 32))
    assert tuple(head.shape[1] for head in logits) == drawn.vocabulary.choices


def test_the_loss_is_the_cross_entropy_of_what_is_there(judge, drawings):
    loss = judge.loss(drawings.images, drawings.attributes)
    for index in (0, 1):
        logits = judge(drawings.images[index : index + 1])
        row = drawings.attributes[index]
        expected = sum(F.cross_entropy(head[0], truth) for head, truth in zip(logits, row, strict=True) if truth >= 0)
        torch.testing.assert_close(loss[index], expected)
    assert (drawings.attributes[0] >= 0).sum() == 3 and (drawings.attributes[1] >= 0).sum() == 5


def test_training_noise_comes_from_the_generator(judge, drawings):
    def loss(seed):
        return judge.loss(drawings.images, drawings.attributes, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(loss(0), loss(1), rtol=0, atol=0)
    judge.train()
    torch.testing.assert_close(loss(0), loss(0), rtol=0, atol=0)
    assert not torch.equal(loss(0), loss(1))


def test_reading_leaves_the_mode_alone_and_does_not_depend_on_the_batch(judge, drawings, monkeypatch):
    monkeypatch.setattr("reproductions.drawn.judge.AT_ONCE", 7)
    judge.train()
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    read = judge.read(drawings.images)
    assert judge.training
    assert all(torch.equal(before[name], value) for name, value in judge.state_dict().items())
    one_by_one = torch.cat([judge.read(image[None]) for image in drawings.images])
    assert torch.equal(read, one_by_one)
    lone = read[:, 0] < 2
    assert torch.equal(lone, (read[:, 3:] == -1).all(1)) and torch.equal(lone, (read[:, 3:] == -1).any(1))


def test_right_means_the_whole_caption(judge, drawings):
    read = judge.read(drawings.images)
    assert judge.right(drawings.images, read).all()
    for column in range(5):
        wrong = read.clone()
        wrong[:, column] += 1
        assert not judge.right(drawings.images, wrong).any()


def test_no_pictures_give_no_verdicts(judge):
    empty = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    assert judge.right(empty, torch.zeros(0, 5, dtype=torch.int64)).shape == (0,)


def test_right_of_is_left_of_the_other_way_round():
    words = SETS["shapes-hard"].vocabulary
    judge = Judge(words)
    for said, seen in (
        ("a red ring right of a blue cross", "a blue cross left of a red ring"),
        ("an orange circle below a pink square", "a pink square above an orange circle"),
        ("a red ring above a blue cross", "a red ring above a blue cross"),
        ("a small red ring", "a small red ring"),
    ):
        attributes, expected = (torch.tensor([words.attributes_of(caption)]) for caption in (said, seen))
        assert torch.equal(judge.as_seen(attributes), expected)


def test_the_easy_set_says_nothing_twice(judge):
    attributes = torch.from_numpy(SHAPES.vocabulary.two_shape)
    assert torch.equal(judge.as_seen(attributes), attributes)


@pytest.mark.slow
@pytest.mark.parametrize("drawn", SETS.values(), ids=SETS)
def test_the_judge_learns_to_read(drawn):
    """At the steps of the CPU profile."""
    steps = 200 * drawn.effort
    torch.manual_seed(0)
    judge = Judge(drawn.vocabulary)
    train = drawn.split(Stream.JUDGE, 20_000, seed=0, resolution=32)
    optimiser = torch.optim.AdamW(judge.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(20_000, (128,), generator=generator)
        optimiser.zero_grad()
        judge.loss(train.images[batch], train.attributes[batch], generator=generator).mean().backward()
        optimiser.step()
        schedule.step()
    for stream in (Stream.CHECK, Stream.HELD_OUT):
        fresh = drawn.split(stream, 2_000, seed=0, resolution=32)
        assert judge.right(fresh.images, fresh.attributes).float().mean() >= 0.98
