"""Fetching MNIST from its mirrors into the user's cache."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path

from fastmnist.data.errors import DatasetError, DatasetWarning
from fastmnist.data.idx import decompress
from fastmnist.data.mnist import MnistFile, verify
from fastmnist.display.progress import ProgressBar
from fastmnist.files.atomic import write_atomically

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT = 5.0  # seconds, to connect and for each read
_CHUNK = 1 << 16
_SLACK = 1 << 16  # gzip may make a file this little longer, never more


def fetch(file: MnistFile, folder: Path | None, mirrors: Sequence[str]) -> tuple[bytes, str]:
    """Download one file, check it, and keep it in `folder`, replacing what was there.

    Until the new file is complete and has the right checksum the old one stays; nothing
    unfinished is left behind. A folder that can't be written costs a warning only.

    Returns
    -------
    content : bytes
        Decompressed.
    mirror : str
        The one that answered: worth trying first for the next file.

    Raises
    ------
    DatasetError
        If no mirror gave the right file, with the reason of each.
    """
    problems = []
    for mirror in mirrors:
        url = mirror + file.download_name
        try:
            packed = _get(url, file)
            content = decompress(io.BytesIO(packed), url, file.size + 1)
            verify(content, file, url)
        except (OSError, http.client.HTTPException, DatasetError) as error:
            problems.append(f"{url}: {error}")
            continue
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / file.download_name, packed)
            except OSError as error:
                warnings.warn(
                    f"{file.download_name} was downloaded, but can't be kept in {folder} "
                    f"({error}): it will be fetched again next time. Set XDG_CACHE_HOME to a "
                    "folder that can be written.",
                    DatasetWarning,
                    stacklevel=2,
                )
        return content, mirror
    raise DatasetError(
        "MNIST: expected a download from one of its mirrors, got " + "; ".join(problems)
    )


def _get(url: str, file: MnistFile) -> bytes:
    limit = file.size + _SLACK
    parts: list[bytes] = []
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        got = 0
        with ProgressBar(f"downloading {file.download_name}", total, size=True) as bar:
            # read1: what has come is counted at once, and a stalled server times out by itself.
            while part := response.read1(_CHUNK):
                parts.append(part)
                got += len(part)
                bar.advance(len(part))
                if got > limit:
                    raise DatasetError(
                        f"expected at most {limit:,} bytes, got more: it is not MNIST"
                    )
    if total is not None and got != total:
        raise DatasetError(f"expected {total:,} bytes, got {got:,} before the connection ended")
    return b"".join(parts)
