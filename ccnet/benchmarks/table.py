"""Rows as a table to read, and as JSON for programs."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from ccnet.benchmarks.measure import Measured, Row
from ccnet.json_file import write_rows

LEGEND = """\
ratio     baseline / value, of the medians over the interleaved rounds: above 1 is better than the baseline
±         half the interquartile range over the rounds, in % of the median; (1x) is a single call
time      processor time of one call, of all threads, which sleep while they wait for others (OMP_WAIT_POLICY=passive,
          unless it is set); on CUDA the time from idle device to idle device
wall      the same by the clock on the wall, which other programs on the machine disturb
memory    peak beyond inputs and parameters      saved  bytes kept for backward, without input and parameters
flops     operations, two per multiply-add
(word)    informs only: a peer of the baseline, a floor that nothing can beat, an option known to lose"""

UNITS = {
    "time": [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")],
    "memory": [(2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")],
    "flops": [(1e9, "G"), (1e6, "M")],
}
KINDS = {"wall": "time", "saved": "memory"}


def print_table(rows: Iterable[Row]) -> list[Row]:
    """Prints the rows as they come, under a heading per case, and returns them."""
    printed = []
    print(LEGEND)
    for (case, baseline), group in groupby(rows, key=lambda row: (row.case, row.baseline)):
        print(f"\n{case}: against {baseline}")
        print(f"  {'variant':<20}{'metric':<22}{'value':>12}{'±':>7}{'baseline':>14}{'±':>7}{'ratio':>9}")
        for row in group:
            value, baseline_value = (readable(row.metric, each) for each in (row.measured, row.baseline_measured))
            print(f"  {row.variant:<20}{row.metric:<22}{value}  {baseline_value}{row.ratio:>8.2f}x", flush=True)
            printed.append(row)
    return printed


def readable(metric: str, measured: Measured) -> str:
    """A value with its unit, and its spread, in 19 characters."""
    word = metric.split(" ", maxsplit=1)[0]
    units = UNITS[KINDS.get(word, word)]
    scale, unit = next((each for each in units if measured.value >= each[0]), units[-1])
    spread = ""
    if KINDS.get(word, word) == "time":
        spread = f"{min(999.0, 100 * measured.spread / measured.value):.0f} %" if measured.rounds > 1 else "(1x)"
    number = measured.value / scale
    digits = f"{number:.3g}" if number < 999.5 else f"{number:.0f}"  # never 1.02e+03
    return f"{f'{digits} {unit}':>12}{spread:>7}"


def as_json(row: Row) -> dict[str, Any]:
    """A row as it is written to files."""
    return {
        "benchmark": row.benchmark,
        "case": row.case,
        "variant": row.variant,
        "baseline": row.baseline,
        "metric": row.metric,
        "value": row.measured.value,
        "baseline_value": row.baseline_measured.value,
        "ratio": row.ratio,
    }


def write_json(path: Path, rows: Iterable[Row]) -> None:
    """Writes a list of rows, one per line; the file is there whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_rows(path, map(as_json, rows))
