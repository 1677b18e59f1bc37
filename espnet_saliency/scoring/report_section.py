"""A part of the report that is there only where there is data for it: heading, words, blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from espnet_saliency.scoring.report_cells import Table
from espnet_saliency.scoring.report_figures import Figure, Picture


@dataclass(frozen=True)
class Block:
    """Figures and tables that show the same numbers, below one heading.

    `figure` stands beside the tables, above them where they are `wide`; `figures` and `pictures`
    stand below them; what is `folded` is opened by its heading.
    """

    heading: str
    figure: Figure | None
    tables: Sequence[Table]
    figures: Sequence[Figure] = ()
    pictures: Sequence[Picture] = ()
    folded: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: `name` is its id, `label` its name in the list of sections."""

    name: str
    label: str
    title: str
    text: Sequence[str]
    blocks: Sequence[Block]
