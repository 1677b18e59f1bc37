"""The report as Markdown: the answer and the tables of the page, for a terminal or a wiki."""

from __future__ import annotations

import re
from typing import Any, Mapping

from espnet_saliency.scoring.report_cells import Cell, Table
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Section


def markdown(inputs: ReportInputs, view: Mapping[str, Any]) -> str:
    """The report's text.

    Args:
        view: what the page shows, as made by report.py.
    """
    said = view["answer"]
    out = [f"# {plain(inputs.title)}", f"**{plain(said.headline)}.** {plain(said.sentence)}"]
    out += [plain(line) for line in (said.rest, *said.others, said.accents, said.certainty) if line]
    out += [f"> **Warning: {plain(title)}.** {plain(text)}" for title, text in view["warnings"]]
    out += ["## WER by accent", *(table_text(t) for block in view["wer"] for t in block.tables)]
    if view["differences"]:
        out.append("## Differences by accent")
        out += [table_text(t) for block in view["differences"] for t in block.tables]
    out += ["## WER by test set", *map(table_text, view["overall"].tables)]
    for section in view["evidence"]:
        out += section_text(section)
    out += ["## CER", table_text(view["cer"]["overall"])]
    if view["classifier"]:
        out += ["## Accent classifier", table_text(view["classifier"]["sets"])]
    if view["faithfulness"]:
        out.append("## Faithfulness of the maps")
        out += [table_text(t) for block in view["faithfulness"] for t in block.tables]
    for section in view["training"]:
        out += section_text(section)
    if view["cost"]:
        out += ["## Cost", *map(table_text, view["cost"].tables)]
    out.append("## How this was made")
    if view["data"]:
        out.append(table_text(view["data"]))
    commands = {"all of it": inputs.command} if inputs.command else {}
    commands |= view["commands"]
    out += [f"{plain(name)}:\n\n{code(command)}" for name, command in commands.items()]
    versions = [f"- {plain(key)}: {plain(str(value))}" for key, value in inputs.environment.items()]
    if versions:
        out.append("\n".join(versions))
    return "\n\n".join(out) + "\n"


def section_text(section: Section) -> list[str]:
    """Heading, words and tables of a section; the page alone has its figures."""
    out = [f"## {plain(section.title)}", *map(plain, section.text)]
    return out + [table_text(table) for block in section.blocks for table in block.tables]


def table_text(table: Table) -> str:
    """A table with its caption above and its sources below."""
    head = [plain(column.label) for column in table.columns]
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    caption = f"{table.context}: {table.caption}" if table.context else table.caption
    lines = [f"**{plain(caption)}**", "", _row(head), _row(rule)]
    lines += [_row([_cell(cell) for cell in row]) for row in (*table.rows, *table.footer)]
    if table.sources:
        links = ", ".join(f"[{plain(link.text)}]({link.href})" for link in table.sources)
        lines += ["", f"From {links}"]
    return "\n".join(lines)


def plain(text: str) -> str:
    """`text` with everything that Markdown or HTML would read as markup made inert."""
    text = re.sub(r"\s+", " ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def code(text: str) -> str:
    """A code block whose fence is longer than any in `text`."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _cell(cell: Cell) -> str:
    return plain(f"{cell.text} ({cell.note})" if cell.note else cell.text)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
