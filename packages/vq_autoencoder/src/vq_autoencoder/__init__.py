"""VQ- and KL-regularised autoencoders: images to tokens or latents and back (VQGAN, the first stage of LDM)."""
