"""Reports as JSON, and back: what was written is trusted in nothing.

::

    {"format": "fastmnist report", "version": 1, "about": {…}, "rows": [{…}, …]}

A row has its figures by name, as a frame has them, and lists beside them: ``timings``, ``changes``,
``sqnr``, ``recall``, ``losing``, ``flips``. Seconds, bytes, shares; null is no number (NaN and
infinities too), or what is not known. Bits and pixels are base64. Files without a version are of
reports that had one batch size for latency and one for throughput.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fastmnist.comparison.rows import BatchTiming, Flip, Pixels, Row
from fastmnist.measuring.metrics import ACCURACY
from fastmnist.rewriting.changes import Change

FORMAT = "fastmnist report"
VERSION = 1
_MOST_BYTES = 64_000_000
_MOST_ROWS = 10_000
_MOST_SIDE = 64
_OF_TIMING = ("p50", "p90", "p99", "speedup", "spread", "throughput")
_WORDS_OF_ABOUT = ("data", "metric", "isa", "cpu", "torch", "python", "targets", "results")
_COUNTS_OF_ABOUT = ("n", "batch_size", "threads", "torch_threads", "rounds", "rounds_timed")
_T = TypeVar("_T")


def record_of(row: Row) -> dict[str, Any]:
    """Give a row as JSON holds it."""
    return {
        **{key: _finite(value) for key, value in row.as_record().items() if "_batch_" not in key},
        "timings": [{k: _finite(v) for k, v in asdict(t).items()} for t in row.timings],
        "changes": [change.to_json() for change in row.changes],
        "sqnr": dict(row.sqnr),
        "recall": [_finite(value) for value in row.recall],
        "losing": [*row.losing],
        "flips": [_flip_record(flip) for flip in row.flips],
        "correct": None if row.correct is None else base64.b64encode(row.correct).decode(),
    }


def text_of(about: Mapping[str, Any], rows: tuple[Row, ...]) -> str:
    """Give the whole report as JSON."""
    records = [record_of(row) for row in rows]
    about = {key: _finite(value) for key, value in about.items()}
    content = {"format": FORMAT, "version": VERSION, "about": about, "rows": records}
    return json.dumps(content, indent=2)


def parsed(source: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Row]]:
    """Read a report, of a file or of JSON text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no report, with what is wrong in it.
    """
    text, name = _text_of(source)
    try:
        content = json.loads(text, parse_constant=_no_constant)
        return _content_of(content)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"report: expected one of fm.compare, got '{name}': {error}") from None


def _text_of(source: str | os.PathLike[str]) -> tuple[str, str]:
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"report: expected a path or JSON text, got {type(source).__name__}: give one of them"
        )
    if isinstance(source, str) and source.lstrip()[:1] in ("{", "["):
        return source, "the text"
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"report: expected a file that report.to_json(path) wrote, got '{path}', which is no "
            "file"
        )
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"report: expected a file of at most {_MOST_BYTES:,} bytes, '{path}' has "
            f"{path.stat().st_size:,}"
        )
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError:
        raise ValueError(
            f"report: expected one of fm.compare, got '{path}', which is no text"
        ) from None


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"expected JSON, got {text}")


def _content_of(content: Any) -> tuple[dict[str, Any], list[Row]]:
    record = _record(content, "the whole")
    version = record.get("version", 0)
    if "format" in record and record["format"] != FORMAT:
        raise ValueError(f"field 'format': expected '{FORMAT}', got {_told(record['format'])}")
    if type(version) is not int or not 0 <= version <= VERSION:
        raise ValueError(
            f"field 'version': expected at most {VERSION}, got {_told(version)}: a later "
            "fastmnist may have written it"
        )
    about = _about_of(_record(record.get("about"), "field 'about'"))
    found = _list(record.get("rows"), "rows", _MOST_ROWS)
    if not found:
        raise ValueError("field 'rows': expected at least one variant, got none")
    make = _row_of if version else _old_row_of
    rows = []
    for i, entry in enumerate(found):
        try:
            rows.append(make(_record(entry, "a row"), about))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"row {i}: {error}") from None
    return about, rows


def _about_of(about: dict[str, Any]) -> dict[str, Any]:
    about = {**about, "metric": about.get("metric", ACCURACY.name)}
    for key in _WORDS_OF_ABOUT:
        if not isinstance(about.get(key), str | None):
            raise ValueError(f"field '{key}': expected words, got {_told(about[key])}")
    for key in _COUNTS_OF_ABOUT:
        if key in about:
            _count(about, key)
    if about["metric"] is None:
        raise ValueError("field 'metric': expected words, got null")
    for key in ("batches", "class_counts"):
        if key in about:
            for value in _list(about[key], key, _MOST_ROWS):
                _count({key: value}, key)
    for note in _list(about.get("notes", []), "notes", 100):
        if not isinstance(note, str):
            raise ValueError(f"field 'notes': expected words, got {_told(note)}")
    if not isinstance(about.get("greater_is_better"), bool | None):
        raise ValueError("field 'greater_is_better': expected true, false or null")
    _record(about.get("noise", {}), "field 'noise'")
    return about


def _row_of(record: dict[str, Any], about: dict[str, Any]) -> Row:
    timings = [_timing_of(_record(t, "a timing")) for t in _list(record.get("timings"), "timings")]
    return Row(
        **_shared(record, about["metric"]),
        timings=tuple(timings),
        changes=tuple(Change.from_json(c) for c in _list(record.get("changes"), "changes")),
        sparsity=_maybe(record, "sparsity"),
        bits=_maybe(record, "bits"),
        sqnr=_sqnr_of(_record(record.get("sqnr"), "field 'sqnr'")),
        output_sqnr=_maybe(record, "output_sqnr"),
        recall=tuple(_each(record, "recall", _number)),
        losing=tuple(_each(record, "losing", _count)),
        flips=tuple(_flip_of(_record(f, "a flip")) for f in _list(record.get("flips"), "flips")),
        flip_count=_count(record, "flip_count"),
        correct=None if record.get("correct") is None else _bytes(record, "correct"),
    )


def _old_row_of(record: dict[str, Any], about: dict[str, Any]) -> Row:
    """Of a file without a version: what it does not tell is NaN, or None."""
    absent = {"layers_changed": 0, "difference": None, "p_value": None, "loss": None}
    record = {"rows": "float32", **absent, **record}
    p50, p99, speedup, spread, throughput = (
        _number(record, key) if key in record else math.nan
        for key in ("p50", "p99", "speedup", "speedup_spread", "throughput")
    )
    nan, timings = math.nan, []
    if p50 > 0:
        timings.append(BatchTiming(1, p50, nan, p99, speedup, spread, 1 / p50))
    batch = about.get("batch_size", 0)
    if throughput > 0 and batch > 0:
        timings.append(BatchTiming(batch, batch / throughput, nan, nan, nan, nan, throughput))
    return Row(**_shared(record, about["metric"]), timings=tuple(timings))


def _shared(record: dict[str, Any], metric: str) -> dict[str, Any]:
    key = "score" if "score" in record else metric
    for name in ("name", "rows"):
        if not isinstance(record.get(name), str):
            raise ValueError(f"field '{name}': expected words, got {_told(record.get(name))}")
    return {
        "name": record["name"],
        "rows": record["rows"],
        "score": _number(record, key),
        "difference": _number(record, "difference"),
        "p_value": _maybe(record, "p_value"),
        "loss": _maybe(record, "loss"),
        "memory": None if record.get("memory") is None else _count(record, "memory"),
        "disk": None if record.get("disk") is None else _count(record, "disk"),
        "layers_changed": _count(record, "layers_changed"),
        "metric": metric,
    }


def _timing_of(record: dict[str, Any]) -> BatchTiming:
    return BatchTiming(_count(record, "batch"), *(_number(record, key) for key in _OF_TIMING))


def _sqnr_of(record: dict[str, Any]) -> dict[str, float | None]:
    return {layer: _maybe(record, layer) for layer in record}


def _flip_record(flip: Flip) -> dict[str, Any]:
    record: dict[str, Any] = {
        "index": flip.index,
        "target": flip.target,
        "before": flip.before,
        "after": flip.after,
        "pixels": None,
    }
    if flip.pixels is not None:
        levels = bytes(level for line in flip.pixels for level in line)
        shape = [len(flip.pixels), len(flip.pixels[0])]
        record["pixels"] = {"shape": shape, "data": base64.b64encode(levels).decode()}
    return record


def _flip_of(record: dict[str, Any]) -> Flip:
    return Flip(
        index=_count(record, "index"),
        target=_whole(record, "target"),
        before=_whole(record, "before"),
        after=_whole(record, "after"),
        pixels=_pixels_of(record.get("pixels")),
    )


def _pixels_of(record: Any) -> Pixels | None:
    if record is None:
        return None
    record = _record(record, "field 'pixels'")
    shape = [*_each(record, "shape", _count)]
    data = _bytes(record, "data")
    if len(shape) != 2 or not all(0 < side <= _MOST_SIDE for side in shape):
        raise ValueError(f"field 'shape': expected two sides of at most {_MOST_SIDE}, got {shape}")
    if len(data) != shape[0] * shape[1]:
        raise ValueError(f"field 'data': expected {shape[0] * shape[1]} bytes, got {len(data)}")
    return tuple(tuple(data[i : i + shape[1]]) for i in range(0, len(data), shape[1]))


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null stands for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected a record, got {_told(value)}")
    return value


def _list(value: Any, name: str, most: int = _MOST_ROWS) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"field '{name}': expected a list, got {_told(value)}")
    if len(value) > most:
        raise ValueError(f"field '{name}': expected at most {most:,} entries, got {len(value):,}")
    return value


def _each(record: dict[str, Any], name: str, read: Callable[[dict[str, Any], str], _T]) -> list[_T]:
    return [read({name: value}, name) for value in _list(record.get(name), name)]


def _number(record: dict[str, Any], name: str) -> float:
    """A number; null is NaN."""
    value = _maybe(record, name)
    return math.nan if value is None else value


def _maybe(record: dict[str, Any], name: str) -> float | None:
    """A number, or null."""
    if name not in record:
        raise ValueError(f"field '{name}': expected a number or null, but it is missing")
    value = record[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"field '{name}': expected a number or null, got {_told(value)}")
    if not math.isfinite(float(value)):
        raise ValueError(f"field '{name}': expected a finite number, got {value}")
    return float(value)


def _whole(record: dict[str, Any], name: str) -> int:
    value = record.get(name)
    if type(value) is not int or abs(value) >= 2**63:
        raise ValueError(f"field '{name}': expected an integer, got {_told(value)}")
    return value


def _count(record: dict[str, Any], name: str) -> int:
    value = _whole(record, name)
    if value < 0:
        raise ValueError(f"field '{name}': expected no negative number, got {value}")
    return value


def _bytes(record: dict[str, Any], name: str) -> bytes:
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"field '{name}': expected base64, got {_told(value)}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"field '{name}': expected base64, got {_told(value)}") from None


def _told(value: Any) -> str:
    """What came, in few letters."""
    return "null" if value is None else repr(value)[:60]
