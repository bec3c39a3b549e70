"""What a denoiser may be trained for besides drawing: filling in behind masks, and enlarging."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Inpainting:
    """Filling in: the denoiser reads the masked picture and the mask beside the noisy state.

    masks: how many are drawn for the training; each picture gets one of them by chance, at every step another.

    Source: LDM inpainting
    Unstated: the law of training masks; LaMa's wide and narrow ones in turn, as evaluated, however much they hide.
    """

    masks: int = 4096


@dataclass(frozen=True)
class SuperResolution:
    """Enlarging: the denoiser reads the picture reduced by `factor`, bicubic and antialiased, beside the noisy state.

    augmentation: largest step to which the small picture is noised in training, each as likely; the denoiser then reads
    the step too, and can be told not to trust a small picture that another model drew. 0: never, and it reads none.

    Source: LDM super-resolution
    Source: Imagen noise conditioning augmentation
    """

    factor: int
    augmentation: int = 0


Task = Inpainting | SuperResolution
