import pytest
import torch
import torch.nn.functional as F

from vq_autoencoder import (
    FirstStageObjective,
    PatchGAN,
    Reconstruction,
    absolute_error,
    adaptive_weight,
    discriminator_from_taming,
    gradient_difference,
    hinge_loss,
    logistic_loss,
    mean_over_elements,
    sum_over_elements,
)


def squared_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x - y).square()


def test_loss_is_the_formula_for_vq(small_vq, images):
    """Checks: LDM first stage objective"""
    autoencoder = small_vq().eval()
    autoencoding = FirstStageObjective(autoencoder)(images)
    latents = autoencoder.encode(images).latents
    vectors = autoencoder.encode(images).vectors
    quantisation = (1 + 0.25) * (latents - vectors).square().mean(dim=(1, 2, 3))
    distance = (images - autoencoder.decode(autoencoder.encode(images).indices)).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(autoencoding.loss, distance + quantisation)


def test_loss_is_the_formula_for_kl(small_kl, images):
    """Checks: LDM first stage objective"""
    autoencoder = small_kl()
    objective = FirstStageObjective(autoencoder, kl_weight=1e-3, log_variance=0.13)
    autoencoding = objective(images, generator=torch.Generator().manual_seed(0))
    latents = autoencoder.encode(images, generator=torch.Generator().manual_seed(0))
    error = (images - autoencoder.decode(latents.values)).abs()
    divergence = latents.mean.square() + latents.log_variance.exp() - 1 - latents.log_variance
    nll = (error / torch.tensor(0.13).exp() + 0.13).sum(dim=(1, 2, 3))
    torch.testing.assert_close(autoencoding.loss, nll + 1e-3 * 0.5 * divergence.sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("reduction", [mean_over_elements, sum_over_elements])
def test_loss_is_the_sum_of_its_terms_and_each_weight_scales_its_own(small_kl, images, reduction):
    autoencoder = small_kl()

    def terms(**weights: float) -> dict[str, torch.Tensor]:
        objective = FirstStageObjective(autoencoder, perceptual=gradient_difference, reduction=reduction, **weights)
        autoencoding = objective(images, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(autoencoding.loss, sum(autoencoding.terms.values()))
        return autoencoding.terms

    once, changed = terms(perceptual_weight=1.0, kl_weight=1.0), terms(perceptual_weight=3.0, kl_weight=5.0)
    torch.testing.assert_close(changed["reconstruction"], once["reconstruction"])
    torch.testing.assert_close(changed["perceptual"], 3 * once["perceptual"])
    torch.testing.assert_close(changed["kl"], 5 * once["kl"])


def test_loss_of_an_example_does_not_depend_on_its_batch(small_vq, images):
    objective = FirstStageObjective(small_vq().eval(), distance=squared_error, perceptual=gradient_difference)
    together = objective(images).loss
    alone = torch.cat([objective(image[None]).loss for image in images])
    torch.testing.assert_close(together, alone)


def test_gradient_difference_in_closed_form():
    """Checks: Mathieu et al. gradient difference loss"""
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    flat = torch.zeros_like(ramp)
    assert gradient_difference(ramp, flat).item() == pytest.approx(1.0)
    assert gradient_difference(ramp.transpose(2, 3) * 0.5, flat.transpose(2, 3)).item() == pytest.approx(0.5)
    assert gradient_difference(ramp, ramp + 7).item() == 0
    assert gradient_difference(ramp, -ramp).item() == pytest.approx(2.0)


def test_adversary_joins_at_its_step_and_gets_no_gradient(small_vq, images):
    """Checks: VQGAN adversarial loss"""
    torch.manual_seed(0)
    objective = FirstStageObjective(small_vq(), adversary=PatchGAN(channels=4, layers=1), adversarial_start=5)
    assert not objective(images, step=4).terms["adversarial"].any()
    autoencoding = objective(images, step=5)
    assert autoencoding.terms["adversarial"].all()
    autoencoding.loss.mean().backward()
    assert all(parameter.grad is None for parameter in objective.adversary.parameters())
    reconstruction = autoencoding.reconstruction.images
    assert not objective.discriminator_loss(images, reconstruction, step=4).any()
    objective.discriminator_loss(images, reconstruction, step=5).mean().backward()
    assert all(parameter.grad is not None for parameter in objective.adversary.parameters())


def test_adaptive_weight_balances_the_two_gradients(small_vq, images):
    """At the last layer the weighted adversarial gradient is as long as that of the reconstruction.

    Checks: VQGAN adaptive weight
    """
    torch.manual_seed(0)
    autoencoder = small_vq()
    adversary = PatchGAN(channels=4, layers=1).eval()
    torch.nn.init.normal_(adversary.main[-1].weight, std=100.0)
    objective = FirstStageObjective(autoencoder, adversary=adversary, adversarial_weight=1.0)
    terms = objective(images).terms
    last = autoencoder.decoder.conv_out.weight
    wanted, adverse = (
        torch.autograd.grad(terms[name].mean(), last, retain_graph=True)[0].norm()
        for name in ("reconstruction", "adversarial")
    )
    torch.testing.assert_close(adverse, wanted, rtol=1e-3, atol=0)


def test_adaptive_weight_in_closed_form_and_clamped():
    """Checks: VQGAN adaptive weight"""
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    ratio = adaptive_weight((weight * weight).sum(), 2 * weight[0], weight)
    assert ratio.item() == pytest.approx(10 / (2 + 1e-4))
    assert not ratio.requires_grad
    assert adaptive_weight((weight * weight).sum(), (weight * 0).sum(), weight).item() == 1e4


def test_no_gradient_needs_no_graph(small_vq, images):
    torch.manual_seed(0)
    objective = FirstStageObjective(small_vq().eval(), adversary=PatchGAN(channels=4, layers=1))
    with torch.no_grad():
        autoencoding = objective(images)
    assert not autoencoding.terms["adversarial"].any()
    assert autoencoding.loss.isfinite().all()


def test_logistic_loss_is_the_cross_entropy_of_real_and_fake(small_vq, images):
    """Checks: VQGAN adversarial loss"""
    adversary = PatchGAN(channels=4, layers=1).eval()
    objective = FirstStageObjective(small_vq(), adversary=adversary, adversarial_loss=logistic_loss)
    judged = objective.discriminator_loss(images, images.flip(0), step=0)
    scores = torch.sigmoid(adversary(images)), torch.sigmoid(adversary(images.flip(0)))
    expected = -0.5 * (scores[0].log().mean(dim=(1, 2, 3)) + (1 - scores[1]).log().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(judged, expected)


def test_hinge_stops_at_the_margin():
    """Checks: VQGAN adversarial loss"""
    real, fake = (torch.tensor(values).view(2, 1, 1, 2) for values in ([2.0, 0.0, 1.0, 1.0], [-2.0, 0.0, -1.0, -1.0]))
    assert hinge_loss(real, fake).tolist() == [0.5, 0.0]


def test_a_few_steps_lower_the_loss(small_kl):
    images = torch.tensor([[0.9, -0.8, -0.8], [-0.8, 0.9, 0.1]])[:, :, None, None].expand(2, 3, 16, 16)
    objective = FirstStageObjective(small_kl(), reduction=mean_over_elements)
    optimiser = torch.optim.Adam(objective.autoencoder.parameters(), 3e-3)
    losses = []
    for step in range(20):
        loss = objective(images, generator=torch.Generator().manual_seed(step)).loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_trains_under_bfloat16_autocast(small_vq, images):
    objective = FirstStageObjective(small_vq(), perceptual=gradient_difference)
    exact = objective(images).loss
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(images).loss
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0)
    rough.mean().backward()


def test_refuses_negative_weights_and_an_absent_adversary(small_vq, images):
    with pytest.raises(ValueError, match="must not be negative"):
        FirstStageObjective(small_vq(), kl_weight=-1.0)
    with pytest.raises(ValueError, match="no adversary; pass adversary="):
        FirstStageObjective(small_vq()).discriminator_loss(images, images, step=0)


@pytest.mark.parity
def test_adversarial_parts_equal_those_of_taming(golden):
    """Checks: VQGAN adversarial loss, adaptive weight"""
    io = golden("mask_and_vqgan_losses").io
    torch.testing.assert_close(
        hinge_loss(io["logits_real"], io["logits_fake"]).mean(), io["hinge_d_loss"], rtol=2e-5, atol=0
    )
    logistic = logistic_loss(io["logits_real"], io["logits_fake"]).mean()
    torch.testing.assert_close(logistic, io["vanilla_d_loss"], rtol=2e-5, atol=0)
    last_layer = io["vq.last_layer"].clone().requires_grad_()
    fake = F.conv2d(io["vq.features"], last_layer, padding=1)
    nll = absolute_error(io["vq.inputs"], fake).mean()
    torch.testing.assert_close(nll, io["toy.nll"], rtol=2e-5, atol=0)
    adversarial = -fake.square().mean()
    weight = 0.8 * adaptive_weight(nll, adversarial, last_layer)
    torch.testing.assert_close(weight, io["toy.adaptive_weight"], rtol=2e-5, atol=0)
    zero = 0.8 * adaptive_weight(nll, 0 * adversarial, last_layer)
    torch.testing.assert_close(zero, io["toy.adaptive_weight_zero_g"], rtol=2e-5, atol=0)


@pytest.mark.parity
@pytest.mark.parametrize("step", [99, 105])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_losses_equal_those_of_taming_and_latent_diffusion(golden, small_vq, small_kl, kind, mode, step):
    """Checks: LDM first stage objective"""
    case = golden("mask_and_vqgan_losses")
    io, options = case.io, case.constructor[kind]
    autoencoder = small_vq() if kind == "vq" else small_kl()
    last_layer = torch.nn.Parameter(io["vq.last_layer"].clone())
    autoencoder.decoder.conv_out.weight = last_layer
    weights = {key: value for key, value in case.weights(f"weights_{kind}").items() if key != "logvar"}
    adversary = discriminator_from_taming(weights, options | {"disc_ndf": 8 if kind == "vq" else 64})
    for module in adversary.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and mode == "train":
            module.reset_running_stats()
    objective = FirstStageObjective(
        autoencoder,
        kl_weight=options.get("kl_weight", 0.0),
        adversary=adversary,
        adversarial_weight=options["disc_weight"],
        adversarial_start=options["disc_start"],
        log_variance=options.get("logvar_used", 0.0),
    ).train(mode == "train")
    fake = F.conv2d(io["vq.features"], last_layer, padding=1)
    bottleneck = {"codebook": io["vq.codebook_loss"].expand(2)} if kind == "vq" else {"kl": io["kl.kl_per_sample"]}
    expected = f"{kind}.{mode}.step{step}"
    autoencoding = objective.judge(io["vq.inputs"], Reconstruction(fake, fake, bottleneck), step=step)
    loss = autoencoding.loss.mean()
    loss.backward()
    torch.testing.assert_close(loss, io[f"{expected}.opt0.loss"], rtol=2e-5, atol=0)
    torch.testing.assert_close(
        autoencoding.terms["reconstruction"].mean(), io[f"{expected}.opt0.nll_loss"], rtol=2e-5, atol=0
    )
    gradient = io[f"{expected}.opt0.grad_last_layer"]
    torch.testing.assert_close(last_layer.grad, gradient, rtol=2e-5, atol=2e-5 * gradient.abs().max().item())
    judged = objective.discriminator_loss(io["vq.inputs"], fake, step=step).mean()
    torch.testing.assert_close(judged, io[f"{expected}.opt1.disc_loss"], rtol=2e-5, atol=0)
