"""An inspection on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ccnet.data.doctor.findings import Severity
from ccnet.data.doctor.statistics import Statistics
from ccnet.inspection.inspect import Inspection

SIZES = 3  # image sizes that are told one by one


def print_inspection(inspection: Inspection, train_split: str) -> None:
    """Classes, images, colours, then what is wrong.

    Args:
        inspection: to be shown.
        train_split: whose class weights and colours are proposed, where it was looked at.
    """
    console = Console(highlight=False)
    for split in inspection.statistics:
        console.print(_classes(inspection, split, with_weights=split == train_split))
    if inspection.statistics:
        console.print(_images(inspection))
    if train_split in inspection.statistics:
        print(normalisation(inspection.statistics[train_split]))
    for finding in inspection.findings:
        console.print(Text(f"{finding.severity}: ", "red" if finding.severity is Severity.ERROR else "yellow"), end="")
        console.print(Text(finding.message()), soft_wrap=True)
    errors = sum(finding.severity is Severity.ERROR for finding in inspection.findings)
    print(f"{errors} errors, {len(inspection.findings) - errors} warnings")


def normalisation(statistics: Statistics) -> str:
    """Mean and standard deviation of the colours as YAML, to paste into a configuration."""
    mean, std = ([round(value, 2) for value in values] for values in (statistics.mean, statistics.std))
    return f"model:\n  mean: {mean}\n  std: {std}"


def _classes(inspection: Inspection, split: str, with_weights: bool) -> Table:
    figures = inspection.statistics[split]
    weights = inspection.class_weights(split) if with_weights else {}
    table = Table()
    table.add_column(Text(split))
    for heading in ("pixels", "share", "images", *weights):
        table.add_column(heading, justify="right")
    labelled = max(sum(figures.class_pixels), 1)
    for index, name in enumerate(inspection.datasets[split].class_names):
        pixels, images = figures.class_pixels[index], figures.class_images[index]
        row_weights = (f"{weight[index]:.3f}" for weight in weights.values())
        table.add_row(Text(name), f"{pixels:,}", f"{100 * pixels / labelled:.2f} %", f"{images}", *row_weights)
    table.add_row("(ignored)", f"{figures.ignored_pixels:,}")
    return table


def _images(inspection: Inspection) -> Table:
    table = Table("split", "images", "looked at", "read", "width", "height", "most common sizes")
    for split, figures in inspection.statistics.items():
        widths, heights = zip(*(size for size, _ in figures.sizes), strict=True)
        common = ", ".join(f"{width}x{height} ({count})" for (width, height), count in figures.sizes[:SIZES])
        table.add_row(
            Text(split),
            str(len(inspection.datasets[split])),
            str(len(inspection.looked_at[split])),
            str(figures.images),
            f"{min(widths)}..{max(widths)}",
            f"{min(heights)}..{max(heights)}",
            common,
        )
    return table
