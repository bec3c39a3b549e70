"""The recipes of denoisers with a line each, for `--help`; imports nothing, so that it comes at once."""

from collections.abc import Mapping

Listing = Mapping[str, Mapping[str, str]]

TOKENS: Listing = {
    "For minutes on two cores": {
        "small": "tokens of 32 to 64 pixels (the default)",
        "smoke": "a few steps of everything",
    },
    "VQ-Diffusion, 32 x 32 tokens of 256 pixels, under captions (give --text-encoder)": {
        "vq-diffusion-s": "36 M, CUB-200, 800 epochs",
        "vq-diffusion-b": "389 M, MS-COCO, 100 epochs",
        "vq-diffusion-b-birds": "the same network, CUB-200, 400 epochs",
        "vq-diffusion-f": "the same network, Conceptual Captions, 100 epochs",
        "vq-diffusion-ithq": "1359 M, ITHQ",
        "improved-vq-diffusion-b": "b with a learned null condition, guidance 3",
        "improved-vq-diffusion-ithq": "ithq likewise, guidance 5",
    },
    "VQ-Diffusion, 16 x 16 tokens of 256 pixels": {
        "vq-diffusion-ffhq": "faces, under nothing, 300 epochs",
        "vq-diffusion-imagenet": "classes of ImageNet, 100 epochs",
        "improved-vq-diffusion-imagenet": "the same, guided by 1.5",
    },
}

LATENTS: Listing = {
    "For minutes on two cores": {
        "latents": "latents of 32 to 64 pixels (the default with --autoencoder)",
        "pixels": "32 pixels (the default without)",
        "smoke": "a few steps of everything",
    },
    "LDM, 256 pixels": {
        "ldm-celebahq": "274 M, vq-f4, 410,000 steps of 48",
        "ldm-ffhq": "the same network, 635,000 steps of 42",
        "ldm-bedrooms": "the same network, 1,900,000 steps of 48",
        "ldm-churches": "295 M, kl-f8, 500,000 steps of 96",
        "ldm-imagenet": "401 M, vq-f4, classes, 178,000 steps of 1200, guidance 1.5",
        "ldm-imagenet-f8": "395 M, vq-f8, classes",
        "ldm-text": "872 M and its encoder of captions, kl-f8, 390,000 steps of 680, guidance 1.5",
        "ldm-text-f4": "404 M and a smaller one, vq-f4",
    },
    "LDM for other tasks (give --task)": {
        "ldm-inpainting": "387 M, vq-f4-noattn, 360,000 steps of 128",
        "ldm-super-resolution": "114 M, vq-f4, 860,000 steps of 64",
    },
    "Pixels": {
        "ddpm-celebahq": "552 M, 256 pixels, 250,000 steps of 12: what RePaint stands on",
    },
}

SCALES: Listing = {
    "ImageBART for minutes on two cores (--kind imagebart --scales 1|2|3)": {
        "small": "8 x 8 tokens (the default)",
        "smoke": "a few steps of everything",
    },
    "ImageBART, 16 x 16 tokens of 256 pixels (--kind imagebart)": {
        "ffhq-4": "faces, four scales",
        "ffhq-2": "faces, two scales",
        "churches-3": "churches, three scales",
        "bedrooms-3": "bedrooms, three scales",
        "cats-3": "cats, three scales",
        "imagenet-4": "classes of ImageNet, four scales",
        "imagenet-5": "the same, five scales",
    },
}


def listed(first: str, *listings: Listing) -> str:
    """What `--help` says: a sentence, then the names in groups."""
    groups = {title: names for listing in listings for title, names in listing.items()}
    wide = max(len(name) for names in groups.values() for name in names)
    lines = [first]
    for title, names in groups.items():
        lines += ["", f"{title}:", *(f"  {name:{wide}}  {line}" for name, line in names.items())]
    return "\n".join(lines)


def names(listing: Listing) -> list[str]:
    """All names of a listing."""
    return [name for group in listing.values() for name in group]
