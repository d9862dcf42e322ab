#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, and runs `studio demo` there, in an empty folder with an empty
# cache of its own. The versions are those of `[tool.uv] constraint-dependencies`, so that uv's cache has them already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
uv build --quiet --wheel --out-dir "$folder/wheel"
wheels=("$folder"/wheel/*.whl)
uv venv --quiet "$folder/venv"
uv pip install --quiet --no-compile-bytecode --python "$folder/venv" "${wheels[0]}"

mkdir "$folder/empty"
cd "$folder/empty"
unset PYTHONPATH
export XDG_CACHE_HOME="$folder/cache"
"$folder/venv/bin/studio" demo --json >demo.json
for file in saffron.png azura.png together.png report.html; do
    test -s "studio-demo/$file" || { echo "studio demo wrote no $file." >&2; exit 1; }
done
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sysconfig
from pathlib import Path

import studio

installed = Path(sysconfig.get_path("purelib"))
assert Path(studio.__file__).is_relative_to(installed), f"studio comes from {studio.__file__}, not from the wheel."
for name, scores in json.loads(Path("demo.json").read_text())["concepts"].items():
    learned, base = scores["image_alignment"], scores["base_image_alignment"]
    assert learned > base, f"{name} is no nearer to its pictures ({learned}) than the base alone ({base})."
    print(f"{name}: image alignment {learned:.3f}, of the base alone {base:.3f}")
PYTHON
