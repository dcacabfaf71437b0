"""Which files of a repository make one model.

Safetensors with its configuration and tokenizer come first, then a Q4_K_M GGUF. Pickled weights (``.bin``, ``.pt``,
``.pkl``) and Python files are never chosen.

>>> choose(["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"], "org/name").gguf is None
True
>>> choose(["README.md", "m-q8_0.gguf", "m-q4_k_m.gguf"], "org/name").gguf
'm-q4_k_m.gguf'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from densecore import regular
from densecore.errors import ModelFormatError, ModelNotFoundError

from . import names

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Read by the engine when present: end tokens, chat template, special tokens.
OPTIONAL = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
NAMED = re.compile(r"additional_chat_templates/[^/\\]+\.jinja")  # chat templates beside the default, by name
_MAX_NAMED = 32  # the engine's cap; the most known is three
MAX_JSON = 64 << 20  # bytes: tokenizer.json of a 150,000-word vocabulary has 11 MB
_MAX_SHARDS = 1000  # the largest public models stay below 200
_SPLIT_GGUF = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Choice:
    """Either one GGUF file, or the small files of a safetensors folder (its shards come from the index)."""

    gguf: str | None
    files: tuple[str, ...] = ()
    sharded: bool = False


def choose(listing: Iterable[str], repo: str) -> Choice:
    """Pick the files of a model out of a repository's listing.

    Raises:
        ModelNotFoundError: nothing densecore reads, or several GGUF files and none of them Q4_K_M.
    """
    there = [name for name in listing if names.fault(name) is None]
    weights = SINGLE if SINGLE in there else INDEX if INDEX in there else None
    if weights and CONFIG in there and TOKENIZER in there:
        small = [CONFIG, TOKENIZER, *(name for name in OPTIONAL if name in there), *_named(there, repo)]
        return Choice(None, (*small, weights), weights == INDEX)
    ggufs = sorted(n for n in there if n.lower().endswith(".gguf") and "mmproj" not in n.lower())
    whole = [name for name in ggufs if not _SPLIT_GGUF.search(name)]
    best = [name for name in whole if re.search(r"q4_k_m", name, re.IGNORECASE)] or whole
    if len(best) == 1:
        return Choice(best[0])
    if len(best) > 1:
        raise ModelNotFoundError(
            f"{repo} holds several GGUF files ({', '.join(best[:12])}); name one, as in {repo}:{best[0]}"
        )
    raise ModelNotFoundError(f"{repo} holds no model densecore reads: {_lack(there, bool(ggufs))}")


def _named(there: Iterable[str], repo: str) -> list[str]:
    """The files of named chat templates."""
    found = sorted(name for name in there if NAMED.fullmatch(name))
    if len(found) > _MAX_NAMED:
        raise ModelFormatError(
            f"{repo} holds {len(found)} named chat templates, more than the {_MAX_NAMED} allowed; use another copy"
        )
    return found


def _lack(there: list[str], split: bool) -> str:
    if split:
        return "its GGUF is split into several files; join them with llama.cpp's gguf-split, and pass the path"
    if SINGLE in there or INDEX in there:
        absent = [name for name in (CONFIG, TOKENIZER) if name not in there]
        return f"safetensors without {' and '.join(absent)}; choose a repository that has them, or a GGUF one"
    pickled = sorted({Path(name).suffix for name in there if name.lower().endswith(_PICKLES)})
    if pickled:
        return (
            f"its weights are pickled ({', '.join(pickled)}), which can run code and is never read; choose a "
            "safetensors or GGUF repository"
        )
    return "no .safetensors and no .gguf file; choose another repository"


def shards(index: bytes, repo: str) -> list[str]:
    """The shard names of a ``model.safetensors.index.json``, each checked.

    Raises:
        ModelFormatError: the index is no index, or names a file outside its folder.
    """
    try:
        table = json.loads(index)["weight_map"]
        found = sorted({str(name) for name in table.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFormatError(f"{repo}: {INDEX} holds no weight_map ({error!r}); choose another revision") from error
    if not 0 < len(found) <= _MAX_SHARDS:
        raise ModelFormatError(f"{repo}: {INDEX} names {len(found)} shards (1 to {_MAX_SHARDS} allowed)")
    for name in found:
        reason = names.fault(name)
        if reason is None and not name.endswith(".safetensors"):
            reason = "is no .safetensors file"
        if reason:
            raise ModelFormatError(
                f"{repo}: {INDEX} names the shard {name!r}, which {reason}; refused: use another copy of the model"
            )
    return found


def missing(folder: Path, repo: str) -> list[str]:
    """What a local safetensors folder lacks to be whole (empty: nothing)."""
    absent = [name for name in (CONFIG, TOKENIZER) if not (folder / name).is_file()]
    if (folder / SINGLE).is_file():
        return absent
    if not (folder / INDEX).is_file():
        return [*absent, f"{SINGLE} (or {INDEX})"]
    return absent + [name for name in shards(_index(folder, repo), repo) if not (folder / name).is_file()]


def _index(folder: Path, repo: str) -> bytes:
    try:
        data = regular.read(folder / INDEX, MAX_JSON)
    except OSError as error:
        raise ModelFormatError(f"{repo}: {INDEX} cannot be read: {error}; copy the whole model folder") from error
    if len(data) > MAX_JSON:
        raise ModelFormatError(f"{repo}: {INDEX} has over {MAX_JSON} bytes, and no index is that large; fetch it again")
    return data


def members(folder: Path, repo: str) -> list[Path]:
    """The files of a whole safetensors folder, in a fixed order."""
    jinja = sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*.jinja"))
    listing = [CONFIG, TOKENIZER, *OPTIONAL, *filter(NAMED.fullmatch, jinja)]
    if (folder / SINGLE).is_file():
        listing.append(SINGLE)
    elif (folder / INDEX).is_file():
        listing += [INDEX, *shards(_index(folder, repo), repo)]
    return [folder / name for name in listing if (folder / name).is_file()]


def remote_code(config: bytes) -> bool:
    """Whether a ``config.json`` asks for Python code of its repository to be run (never done)."""
    try:
        return bool(json.loads(config).get("auto_map"))
    except (ValueError, AttributeError, RecursionError):
        return False
