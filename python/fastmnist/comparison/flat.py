"""The figures of a report under flat names, as trackers of experiments take them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from fastmnist.comparison.rows import Row

# What MLflow takes in a name, less the slash, which parts it.
_OTHER = re.compile(r"[^\w. -]", re.ASCII)


def flat_metrics(rows: Iterable[Row]) -> dict[str, float]:
    """See :meth:`Report.metrics`."""
    found: dict[str, float] = {}
    taken: set[str] = set()
    for row in rows:
        name = _free(_plain(row.name), taken)
        taken.add(name)
        values: dict[str, float | None] = {
            _plain(row.metric): row.score,
            "difference": row.difference,
            "p_value": row.p_value,
            "loss": row.loss,
            "disk_bytes": row.disk,
            "memory_bytes": row.memory,
            "sparsity": row.sparsity,
            "bits": row.bits,
            "layers_changed": row.layers_changed,
            "output_sqnr_db": row.output_sqnr,
            "flips": row.flip_count,
        }
        for timing in row.timings:
            batch = f"batch_{timing.batch}"
            values |= {
                f"p50_us_{batch}": timing.p50 * 1e6,
                f"p90_us_{batch}": timing.p90 * 1e6,
                f"p99_us_{batch}": timing.p99 * 1e6,
                f"speedup_{batch}": timing.speedup,
                f"rows_per_second_{batch}": timing.throughput,
            }
        values |= {f"sqnr_db/{_plain(layer)}": value for layer, value in row.sqnr.items()}
        known = {key: value for key, value in values.items() if value is not None}
        found |= {f"{name}/{k}": float(v) for k, v in known.items() if math.isfinite(v)}
    return found


def _plain(name: str) -> str:
    """A part of a name: other letters as words or underscores."""
    return _OTHER.sub("_", name.replace("%", "percent")).strip(". ") or "_"


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
