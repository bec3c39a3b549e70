"""`conprediff train`, `sample`, `inpaint`, `upscale`, `evaluate` and `compare`."""
