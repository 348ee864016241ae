"""Cases by batch size, as tables: microseconds, and how many times as long as the first case."""

from __future__ import annotations

from typing import Any

from fastmnist.display.tables import Table


def batch_table(
    title: str, batches: list[dict[str, Any]], first: str, digits: int = 1, of_ratios: int = 2
) -> Table:
    """Make one of reports of batches, each with its ``cases``; all are compared with `first`."""
    table = Table(title, ["", *(f"batch {b['batch']:,}" for b in batches)])
    for name in dict.fromkeys(case["name"] for batch in batches for case in batch["cases"]):
        cells = []
        for batch in batches:
            case = next((c for c in batch["cases"] if c["name"] == name), None)
            if case is None:
                cells.append("–")
                continue
            ratio = f" ({case['slower_than_ours']:.{of_ratios}f} ×)" if name != first else ""
            cells.append(f"{case['microseconds']:,.{digits}f}{ratio}")
        table.row(name, *cells)
    table.note(f"in brackets: times slower than {first}")
    return table
