"""Gaussian diffusion over latents or pixels: DDPM and LDM, samplers and guidance."""
