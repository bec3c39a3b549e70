"""Table 1 of ConPreDiff: text to image on MS-COCO 256x256.

Source: ConPreDiff Table 1
"""

from reproductions.experiment import Backbone, Context, Kind, Method, Row, Table

TRAINED = "FID-30K"
ZERO_SHOT = "zero-shot FID-30K"

LDM = Method(Backbone.CONTINUOUS)
VQ_DIFFUSION = Method(Backbone.DISCRETE)
IMPROVED_VQ_DIFFUSION = Method(Backbone.DISCRETE, purity=True)
CONPREDIFF_CON = Method(Backbone.CONTINUOUS, Context())
CONPREDIFF_DIS = Method(Backbone.DISCRETE, Context())
CASCADE = Method(Backbone.CASCADE, Context())

TABLE = Table(
    name="table1",
    title="Text to image (ConPreDiff, Table 1: MS-COCO 256x256)",
    columns=(TRAINED, ZERO_SHOT),
    # fmt: off
    rows=(
        Row("AttnGAN", Kind.GAN, {TRAINED: 35.49}),
        Row("DM-GAN", Kind.GAN, {TRAINED: 32.64}),
        Row("DF-GAN", Kind.GAN, {TRAINED: 21.42}),
        Row("DM-GAN+CL", Kind.GAN, {TRAINED: 20.79}),
        Row("XMC-GAN", Kind.GAN, {TRAINED: 9.33}),
        Row("LAFITE", Kind.GAN, {TRAINED: 8.12}),
        Row("Make-A-Scene", Kind.AUTOREGRESSIVE, {TRAINED: 7.55}),
        Row("DALL-E", Kind.AUTOREGRESSIVE, {ZERO_SHOT: 17.89}),
        Row("LAFITE (zero-shot)", Kind.GAN, {ZERO_SHOT: 26.94}),
        Row("LDM", Kind.CONTINUOUS, {ZERO_SHOT: 12.63}, LDM),
        Row("GLIDE", Kind.CONTINUOUS, {ZERO_SHOT: 12.24}),
        Row("DALL-E 2", Kind.CONTINUOUS, {ZERO_SHOT: 10.39}),
        Row(
            "Improved VQ-Diffusion",
            Kind.DISCRETE,
            {ZERO_SHOT: 8.44},
            IMPROVED_VQ_DIFFUSION,
            note="8.44 is the number of a COCO-tuned model; ours is VQ-Diffusion's training, drawn by the purity prior",
            trained_as="VQ-Diffusion",
        ),
        Row("Simple Diffusion", Kind.CONTINUOUS, {ZERO_SHOT: 8.32}),
        Row("Imagen", Kind.CONTINUOUS, {ZERO_SHOT: 7.27}),
        Row("Parti", Kind.AUTOREGRESSIVE, {ZERO_SHOT: 7.23}),
        Row("Muse", Kind.PARALLEL, {ZERO_SHOT: 7.88}),
        Row("eDiff-I", Kind.CONTINUOUS, {ZERO_SHOT: 6.95}),
        Row("ConPreDiff_dis", Kind.DISCRETE, {ZERO_SHOT: 6.67}, CONPREDIFF_DIS, "VQ-Diffusion"),
        Row("ConPreDiff_con", Kind.CONTINUOUS, {ZERO_SHOT: 6.21}, CONPREDIFF_CON, "LDM"),
        Row(
            "VQ-Diffusion", Kind.DISCRETE, {}, VQ_DIFFUSION, note="not in the paper's table: the base of ConPreDiff_dis"
        ),
        Row(
            "ConPreDiff_con cascade",
            Kind.CONTINUOUS,
            {},
            CASCADE,
            note="ConPreDiff_con as the paper has it, drawn small and enlarged; at the sizes that have a cascade",
        ),
    ),
    # fmt: on
    notes=(
        "The paper's zero-shot column lists Improved VQ-Diffusion at 8.44; that model was fine-tuned on COCO.",
        "ConPreDiff_con of the paper is an Imagen-like cascade, as the last row is; in its own row it is LDM with the "
        "context loss, and differs from LDM in that alone.",
    ),
)
