"""Mask-and-replace diffusion over tokens: VQ-Diffusion and Improved VQ-Diffusion."""
