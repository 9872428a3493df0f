"""The buildpacks bring their own packages; in a builder they are put on the path by `bin/detect` and `bin/build`."""

import sys
from pathlib import Path

BUILDPACKS = Path(__file__).parents[3] / "buildpacks"

for name in ("python", "procfile"):
    sys.path.insert(0, str(BUILDPACKS / name / "lib"))
