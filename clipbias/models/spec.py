"""A model's name: one line of text that says which weights, from where, and read how.

=====================================  ============================================================
``ViT-B-32/laion2b_s34b_b79k``         an open_clip architecture and its pretrained tag
``hf-hub:org/name``                    an open_clip repository on the Hugging Face hub
``file:PATH?model=ViT-B-32``           a local checkpoint (.safetensors, or .pt/.bin of plain tensors)
``zoo:NAME``                           one of the small CLIPs shipped with clipbias
``random:ViT-B-32?seed=0``             the architecture without training: a null model
``scores:FILE``, ``embeddings:FILE``   stored numbers instead of weights (`clipbias.models.stored`)
``KIND:NAME``                          whatever another package adds (`clipbias.models.outside`)
=====================================  ============================================================

Options follow a ``?`` and are joined by ``&``. In a list, ``zoo`` stands for every zoo model and
``@models.txt`` for the lines of a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote

from clipbias.errors import ClipbiasError, ModelError, nearest
from clipbias.models import outside

PREPROCESS_OPTIONS = ("mean", "std", "interpolation", "resize_mode")
PRECISIONS = ("fp32", "fp16", "bf16")
STORED = ("scores", "embeddings")
_OPTIONS = {
    "open_clip": (*PREPROCESS_OPTIONS, "precision"),
    "hf-hub": (*PREPROCESS_OPTIONS, "precision", "revision"),
    "file": (*PREPROCESS_OPTIONS, "precision", "model", "tag"),
    "zoo": ("precision",),
    "random": (*PREPROCESS_OPTIONS, "precision", "seed"),
    "scores": ("array", "id", "ids", "names", "probabilities"),
    "embeddings": ("array", "id", "ids", "names", "texts"),
}
_CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "longest", "squash"),
    "precision": PRECISIONS,
    "probabilities": ("yes", "no"),
}
# A comma between two models, not one inside ``mean=0.5,0.5,0.5``.
_LIST_COMMA = re.compile(r",(?!\s*[-+.\deE]+\s*(?:,|&|$))")


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model name; ``str(spec)`` is its canonical form.

    Attributes
    ----------
    kind : {"open_clip", "hf-hub", "file", "zoo", "random", "scores", "embeddings"} or one added by another package
    name : str
        Architecture, repository, path or zoo name.
    tag : str
        Pretrained tag of an open_clip model, else empty.
    options : tuple of (str, str)
        Query options, sorted by name.
    """

    kind: str
    name: str
    tag: str = ""
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        head = f"{self.name}/{self.tag}" if self.kind == "open_clip" else f"{self.kind}:{self.name}"
        query = "&".join(f"{key}={quote(value, safe=',./-_+:')}" for key, value in self.options)
        return f"{head}?{query}" if query else head

    def option(self, name: str, default: str | None = None) -> str | None:
        """Return one query option as text."""
        return dict(self.options).get(name, default)

    @property
    def preprocess(self) -> dict:
        """Preprocessing that the user asked for, as open_clip's ``PreprocessCfg`` fields."""
        asked: dict = {}
        for key in PREPROCESS_OPTIONS:
            value = self.option(key)
            if value is not None:
                asked[key] = _triple(key, value, self) if key in ("mean", "std") else value
        return asked


def parse_spec(text: str, *, check: bool = True) -> ModelSpec:
    """Read one model name.

    Parameters
    ----------
    text : str
        See the table at the top of this module.
    check : bool
        Also check that the architecture, tag, file or zoo model exists (this imports open_clip but
        neither loads weights nor uses the network).

    Raises
    ------
    ModelError
        The form is unknown, an option is wrong, or no such model exists; the message names the
        nearest one that does.
    """
    text = text.strip()
    if text == "zoo" or text.startswith("@"):
        raise ModelError(
            f"{text!r} stands for several models; one model was expected here, for example zoo:NAME."
        )
    head, options = _split_query(text)
    kind, colon, rest = head.partition(":")
    if colon and kind != "open_clip" and (kind in _OPTIONS or kind in outside.kinds()):
        spec = ModelSpec(kind, rest, "", options)
        if not rest:
            raise ModelError(f"{text!r} names no model after {kind + ':'!r}.")
        if kind == "random":
            spec = ModelSpec(kind, rest.replace("/", "-"), "", _with_default(options, "seed", "0"))
    elif colon and re.fullmatch(r"[A-Za-z-]{2,}", kind):
        raise ModelError(
            f"{text!r}: unknown kind of model {kind + ':'!r}."
            + nearest(kind, {*_OPTIONS, *outside.kinds()} - {"open_clip"})
        )
    elif head.endswith((".safetensors", ".pt", ".bin", ".pth", ".ckpt")):
        raise ModelError(f"{text!r} looks like a local checkpoint, which is written file:{head}?model=NAME.")
    else:
        # Some people write ViT-B/32; open_clip's own name has a dash.
        name, _, tag = head.rpartition("/")
        spec = ModelSpec("open_clip", (name or tag).replace("/", "-"), tag if name else "", options)
    _check_options(spec)
    return check_spec(spec) if check else spec


def check_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec if what it names exists; see `parse_spec`."""
    from clipbias.models import names

    if spec.kind == "open_clip":
        return ModelSpec(
            spec.kind, names.architecture(spec.name), names.tag(spec.name, spec.tag), spec.options
        )
    if spec.kind == "random":
        names.architecture(spec.name)
    elif spec.kind == "zoo":
        names.zoo(spec.name)
    elif spec.kind == "file":
        names.checkpoint(spec)
    return spec


def split_specs(text: str | Sequence[str]) -> list[str]:
    """Return the single model names that a list stands for, in order and without repeats.

    Nothing is checked, so that one wrong name fails alone when its turn comes.

    Parameters
    ----------
    text : str or sequence of str
        Names joined by commas; ``zoo`` means every zoo model, ``@PATH`` a file with one name per line
        (``#`` starts a comment).

    Raises
    ------
    ClipbiasError
        The list is empty, or a list file cannot be read.
    """
    parts = [
        part.strip()
        for item in ([text] if isinstance(text, str) else text)
        for part in _LIST_COMMA.split(item)
    ]
    names: list[str] = []
    for part in filter(None, parts):
        for name in _list_file(Path(part[1:])) if part.startswith("@") else [part]:
            names.extend(_zoo_names() if name == "zoo" else [name])
    if not names:
        raise ClipbiasError(f"no model is named in {text!r}. Example: zoo or ViT-B-32/laion2b_s34b_b79k.")
    return list(dict.fromkeys(names))


def parse_specs(text: str | Sequence[str], *, check: bool = True) -> list[ModelSpec]:
    """Read a list of model names; see `split_specs` and `parse_spec`."""
    return list(dict.fromkeys(parse_spec(name, check=check) for name in split_specs(text)))


def _zoo_names() -> list[str]:
    from clipbias import zoo

    return [f"zoo:{name}" for name in zoo.names()]


def _list_file(path: Path) -> list[str]:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ClipbiasError(f"the model list {path} cannot be read: {problem}.") from problem
    # A comment needs a space before its '#': a path or revision may hold one.
    names = [re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in lines]
    nested = [name for name in names if name.startswith("@")]
    if nested:
        raise ClipbiasError(f"the model list {path} names another list, {nested[0]!r}; lists do not nest.")
    return [name for name in names if name]


def _split_query(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    head, mark, query = text.rpartition("?")
    if not mark:
        return text, ()
    try:
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ModelError(
            f"{text!r}: options after '?' read name=value, joined by '&'; found {query!r}."
        ) from None
    if len({key for key, _ in pairs}) < len(pairs):
        raise ModelError(f"{text!r} gives an option twice.")
    return head, tuple(sorted(pairs))


def _with_default(options: tuple[tuple[str, str], ...], key: str, value: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({key: value, **dict(options)}.items()))


def _check_options(spec: ModelSpec) -> None:
    for key, value in spec.options:
        if spec.kind in _OPTIONS and key not in _OPTIONS[spec.kind]:
            raise ModelError(f"{str(spec)!r}: unknown option {key!r}." + nearest(key, _OPTIONS[spec.kind]))
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ModelError(f"{str(spec)!r}: {key} is one of {', '.join(_CHOICES[key])}, not {value!r}.")
        if key == "seed" and not re.fullmatch(r"\d{1,18}", value):
            raise ModelError(f"{str(spec)!r}: seed is a whole number from 0, not {value!r}.")
    _ = spec.preprocess


def _triple(key: str, value: str, spec: ModelSpec) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or (key == "std" and min(numbers) <= 0):
        raise ModelError(
            f"{str(spec)!r}: {key} is one number or three joined by commas, for example {key}=0.5,0.5,0.5."
        )
    return numbers
