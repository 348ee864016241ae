"""Print the folder of the torch to build against, or fail with one sentence.

Run by CMake. The environment that is installed into comes first: the extension must match the
torch it will be loaded beside. An isolated build's own torch is on `sys.path`.
"""

import re
import sys
import sysconfig
from pathlib import Path

MINIMUM = (2, 10)

for folder in [sysconfig.get_path("platlib"), *sys.path]:
    version_file = Path(folder, "torch", "version.py")
    if not version_file.is_file():
        continue
    found = re.search(r"__version__ = '(\d+)\.(\d+)", version_file.read_text())
    if found and (int(found[1]), int(found[2])) < MINIMUM:
        sys.exit(
            f"fastmnist needs torch >= 2.10, but {found[1]}.{found[2]} is installed: "
            "upgrade it first with  pip install torch==2.13.0"
        )
    print(version_file.parent)
    break
else:
    sys.exit("fastmnist needs torch to build: install it first with  pip install torch==2.13.0")
