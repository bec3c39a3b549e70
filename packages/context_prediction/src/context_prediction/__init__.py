"""The context-prediction loss of ConPreDiff for any denoiser: predict the distribution of every point's neighbours."""
