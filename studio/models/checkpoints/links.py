"""A diffusers folder as diffusers reads it: JSON files without a byte order mark, and weights without a variant."""

import codecs
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[A-Za-z]\w*))?(?P<shard>-\d{5}-of-\d{5})?"
    r"\.(?P<kind>safetensors|bin)"
)
_SHARDS = re.compile(r"(?P<stem>\w+\.safetensors\.index)\.(?P<variant>\w+)\.json")


@contextmanager
def as_diffusers_reads(folder: Path) -> Iterator[Path]:
    """The folder; or, while open, a folder of links to its files, where diffusers would not read the folder itself.

    A JSON file that begins with a byte order mark, which RFC 8259 (section 8.1) forbids, is copied without it. Weights
    that are there as a variant alone, such as model.fp16.safetensors, are linked under the plain name.
    """
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("._")]
    marked = {file for file in files if file.suffix == ".json" and _has_mark(file)}
    names = {file: name for part in folder.iterdir() if part.is_dir() for file, name in _plain_names(part).items()}
    if not marked and not names:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        for file in files:
            target = Path(made) / file.relative_to(folder).with_name(names.get(file, file.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in marked:
                target.write_bytes(file.read_bytes().removeprefix(codecs.BOM_UTF8))
            elif not target.exists():
                target.symlink_to(file.absolute())
        yield Path(made)


def chosen_variant(part: Path) -> str | None:
    """The variant, such as fp16, of a part's safetensors that is read; None where there are some without one."""
    found = [match for file in sorted(part.iterdir()) if (match := WEIGHTS.fullmatch(file.name))]
    variants = [match["variant"] for match in found if match["kind"] == "safetensors"]
    return min(filter(None, variants), default=None) if None not in variants else None


def _plain_names(part: Path) -> dict[Path, str]:
    """The names without a variant of the files of the variant that is read; shards keep theirs, which an index has."""
    variant, names = chosen_variant(part), {}
    for file in part.iterdir() if variant else ():
        weights, index = WEIGHTS.fullmatch(file.name), _SHARDS.fullmatch(file.name)
        if weights and weights["variant"] == variant and not weights["shard"]:
            names[file] = f"{weights['stem']}.{weights['kind']}"
        elif index and index["variant"] == variant:
            names[file] = f"{index['stem']}.json"
    return names


def _has_mark(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(3) == codecs.BOM_UTF8
