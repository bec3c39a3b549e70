"""The comparison of first stages: a table, its numbers as JSON, and a grid of reconstructions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reproductions.artefacts import write_json
from reproductions.reporting import score_table
from reproductions.reporting.grids import fitting_scale, grid

SHOWN = 12
SIDE = 64


def write_comparison(out: Path, results: Mapping[str, Any], pictures: Mapping[str, Tensor]) -> str:
    """Write `autoencoders.json`, `autoencoders.md` and `reconstructions.png`; return the Markdown.

    The picture has one row for each key of `pictures`, in order, and the first held-out images as columns.
    """
    write_json(out / "autoencoders.json", results)
    text = f"{table(results)}\n\nreconstructions.png, from the top: {'; '.join(pictures)}."
    (out / "autoencoders.md").write_text(text + "\n", encoding="utf-8")
    shown = torch.cat([images[:SHOWN] for images in pictures.values()])
    columns = min(SHOWN, len(next(iter(pictures.values()))))
    grid(shown, columns, fitting_scale(shown, SIDE)).save(out / "reconstructions.png")
    return text


def table(results: Mapping[str, Any]) -> str:
    """The Markdown table of the results."""
    names = list(results["rows"][0]["scores"])
    head = ["autoencoder", "parameters", "bits per image", *names, "codes used", "perplexity", "seconds"]
    rows = []
    for row in results["rows"]:
        codes = row["codes"]
        used = f"{codes['usage']:.1%} of {codes['codes']:,}" if "usage" in codes else "-"
        perplexity = f"{codes['perplexity']:.0f}" if "perplexity" in codes else "-"
        cells = [row["autoencoder"], f"{row['parameters']:,}", f"{codes['bits per image']:,.0f}"]
        cells += [score_table.cell(row["scores"][name]) for name in names]
        rows.append([*cells, used, perplexity, format(row["seconds"], ".0f")])
    data = results["data"]
    return "\n".join(
        [
            *score_table.table(head, rows),
            "",
            data["note"],
            f"Reconstructions of {data['held_out']:,} held-out images; intervals of 95 %. rFID is in the",
            "space that its name says, and is not comparable with numbers from other spaces. Bits of a Gaussian",
            "bottleneck are its mean divergence.",
        ]
    )
