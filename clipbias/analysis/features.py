"""One feature matrix seen through centring and scaling, a block of rows at a time.

Centring comes before any product and the scale is fixed to ``||X||_F = sqrt(n)``: a Gram matrix of
uncentred unit-norm or offset features cancels in float32. Blocks are made on demand, so that an input
may be a memory map larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch

from clipbias.errors import DataError

_CHUNK_BYTES = 8 << 20
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def working_dtype(name: str) -> torch.dtype:
    """Return the torch type of ``"float32"`` or ``"float64"``."""
    if name not in _DTYPES:
        raise DataError(f"dtype {name!r} is not one of {sorted(_DTYPES)}.")
    return _DTYPES[name]


class Scratch:
    """Buffers that are taken again and again.

    Thousands of short-lived aligned blocks leave holes in the heap that add up to more than the input.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def take(
        self, use: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return an uninitialised tensor; it is valid until the next one is taken for the same use."""
        size = shape[0] * shape[1]
        held = self._held.get((use, dtype, device))
        if held is None or len(held) < size:
            held = self._held[use, dtype, device] = torch.empty(size, dtype=dtype, device=device)
        return held[:size].view(shape)


class Features:
    """A matrix of n images by p features, read lazily.

    Parameters
    ----------
    array : array-like, shape (n, p)
        numpy array, memory map or tensor; float16 and bfloat16 are widened before use.
    name : str
        What messages call it, for example ``"model 'a', layer 'proj', state 'pre'"``.
    ids : sequence, optional
        Image ids for messages; row numbers otherwise.
    order : array of int, optional
        Rows to use, in this order.
    standardize : bool
        Divide every feature by its standard deviation, so that no outlier dimension rules the result.
    dtype : torch.dtype
        float32 or float64, of the blocks handed out.
    device : str
    scratch : Scratch, optional
        Shared by matrices that are compared.

    Raises
    ------
    DataError
        Not two-dimensional, fewer than three images, or a value that is not finite.
    """

    def __init__(
        self,
        array: object,
        *,
        name: str = "features",
        ids: Sequence | None = None,
        order: np.ndarray | None = None,
        standardize: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        scratch: Scratch | None = None,
    ) -> None:
        if not isinstance(array, torch.Tensor):
            array = np.asanyarray(array)
            if array.dtype.kind not in "fiub":
                raise DataError(f"{name}: values are of type {array.dtype}, numbers are needed.")
        if array.ndim != 2:
            raise DataError(
                f"{name}: shape {tuple(array.shape)} is not (images, features). Token outputs must be pooled to "
                "one row per image first."
            )
        if isinstance(array, torch.Tensor):
            array = array.detach()
            if torch.device(device).type != "cpu":
                array = array.to(device)
        self.array, self.name, self.ids, self.order = array, name, ids, order
        self.standardize, self.dtype, self.device = standardize, dtype, torch.device(device)
        self.scratch = Scratch() if scratch is None else scratch
        self._row_squares: torch.Tensor | None = None  # of centred rows, where the factor came by them
        self.n = int(array.shape[0]) if order is None else len(order)
        self.p = int(array.shape[1])
        if self.n < 3:
            raise DataError(f"{name}: {self.n} images; at least 3 are needed.")
        if self.p < 1:
            raise DataError(f"{name}: no features.")

    def raw(self, start: int, stop: int) -> torch.Tensor:
        """Return rows as given, on the device, float32 or wider."""
        rows = self.array[start:stop] if self.order is None else self.array[self.order[start:stop]]
        if not isinstance(rows, torch.Tensor):
            rows = np.ascontiguousarray(rows)
            if rows.dtype not in (np.float32, np.float64):
                rows = rows.astype(np.float64 if rows.dtype.kind in "iu" else np.float32)
            if not rows.flags.writeable:
                rows = rows.copy()
            rows = torch.from_numpy(rows)
        if rows.dtype not in (torch.float32, torch.float64):
            rows = rows.to(torch.float32)
        return rows.to(self.device)

    def chunks(self) -> Iterable[tuple[int, int]]:
        """Yield row ranges of a few megabytes."""
        step = max(1, _CHUNK_BYTES // (8 * self.p))
        for start in range(0, self.n, step):
            yield start, min(start + step, self.n)

    @cached_property
    def mean(self) -> torch.Tensor:
        """Column means in float64, shape (p,)."""
        total = torch.zeros(self.p, dtype=torch.float64, device=self.device)
        for start, stop in self.chunks():
            rows = self.raw(start, stop)
            part = self._buffer("chunk", rows.shape, torch.float64).copy_(rows).sum(0)
            if not bool(torch.isfinite(part).all()):
                self._name_bad_row(rows, start)
            total += part
        return total / self.n

    def _name_bad_row(self, rows: torch.Tensor, start: int) -> None:
        bad = torch.nonzero(~torch.isfinite(rows).all(1)).flatten()
        if len(bad) == 0:
            raise DataError(f"{self.name}: values are too large to be summed.")
        row = start + int(bad[0])
        image = f"row {row}" if self.ids is None else f"image {self.ids[row]!r} (row {row})"
        raise DataError(
            f"{self.name}: {image} holds a value that is not finite. Leave that image out of every model."
        )

    @cached_property
    def _spread(self) -> torch.Tensor:
        """Column sums of squared deviations in float64, shape (p,)."""
        total = torch.zeros(self.p, dtype=torch.float64, device=self.device)
        for start, stop in self.chunks():
            rows = self._buffer("chunk", (stop - start, self.p), torch.float64).copy_(self.raw(start, stop))
            total += rows.sub_(self.mean).square_().sum(0)
        return total

    @cached_property
    def factor(self) -> torch.Tensor:
        """What a centred row is multiplied by: shape () or (p,)."""
        # A spread at the rounding of the values themselves is no spread.
        floor = self.n * (8 * torch.finfo(self.dtype).eps * self.mean.abs()).square()
        if self.standardize:
            spread = self._spread
            keep = spread > floor
            factor = torch.where(keep, 1 / spread.clamp_min(torch.finfo(torch.float64).tiny).sqrt(), 0.0)
            return factor * (self.n / max(int(keep.sum()), 1)) ** 0.5
        squares = torch.empty(self.n, dtype=torch.float64, device=self.device)
        for start, stop in self.chunks():
            rows = self.raw(start, stop)
            out = self._buffer("rows", rows.shape, rows.dtype)
            squares[start:stop] = torch.sub(rows, self.mean.to(rows.dtype), out=out).square_().sum(1)
        total = float(squares.sum())
        if not 1e-20 < total < 1e30:  # squares may have left the range of float32
            total = float(self._spread.sum())
        elif rows.dtype == self.dtype:
            self._row_squares = squares
        if total <= float(floor.sum()):
            return torch.zeros((), dtype=torch.float64, device=self.device)
        return torch.tensor((self.n / total) ** 0.5, dtype=torch.float64, device=self.device)

    @property
    def constant(self) -> bool:
        """Whether every image has the same features."""
        return not bool((self.factor != 0).any())

    @cached_property
    def _work(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mean.to(self.dtype), self.factor.to(self.dtype)

    @cached_property
    def _tiny(self) -> bool:
        return float(self.factor.max()) > 1e15

    def _buffer(
        self, use: str, shape: tuple[int, int] | torch.Size, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        return self.scratch.take(use, (shape[0], shape[1]), dtype or self.dtype, self.device)

    def block(self, start: int, stop: int, *, double: bool = False, reuse: str | None = None) -> torch.Tensor:
        """Return centred rows scaled so that the whole has squared norm n, shape (stop - start, p).

        Parameters
        ----------
        start, stop : int
        double : bool
            In float64 from the centring on.
        reuse : str, optional
            Name of the scratch buffer to write into; what was in it is lost.
        """
        rows = self.raw(start, stop)
        kind = torch.float64 if double else self.dtype
        out = torch.empty_like(rows, dtype=kind) if reuse is None else self._buffer(reuse, rows.shape, kind)
        mean, factor = self._work
        # Centre float64 input before it is narrowed, and keep products of tiny features inside float32.
        if kind == torch.float32 and (rows.dtype == torch.float64 or self._tiny):
            wide = self._buffer("chunk", rows.shape, torch.float64).copy_(rows)
            return out.copy_(wide.sub_(self.mean).mul_(self.factor))
        if kind == torch.float64:
            mean, factor = self.mean, self.factor
            rows = out.copy_(rows)
        return torch.sub(rows, mean, out=out).mul_(factor)

    def whole(self) -> torch.Tensor:
        """Return all rows, centred and scaled, in the working precision."""
        return self.block(0, self.n)

    @cached_property
    def square(self) -> torch.Tensor:
        """Squared norms of the rows after centring and scaling, float64, shape (n,)."""
        factor = self.factor
        if self._row_squares is not None:
            return self._row_squares * factor.square()
        out = torch.empty(self.n, dtype=torch.float64, device=self.device)
        for start, stop in self.chunks():
            out[start:stop] = self.block(start, stop, reuse="rows").square_().sum(1)
        return out


def gather(
    arrays: Sequence,
    *,
    names: Sequence[str] | None = None,
    ids: Sequence | None = None,
    standardize: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
) -> list[Features]:
    """Return matrices as `Features`, checked for equal numbers of images.

    Raises
    ------
    DataError
        Unequal numbers of rows, an unknown dtype, or a matrix that `Features` refuses.
    """
    kind, scratch = working_dtype(dtype), Scratch()
    if names is None:
        names = ["X", "Y"] if len(arrays) == 2 else [f"matrix {i}" for i in range(len(arrays))]
    found = [
        a
        if isinstance(a, Features)
        else Features(
            a, name=name, ids=ids, standardize=standardize, dtype=kind, device=device, scratch=scratch
        )
        for a, name in zip(arrays, names, strict=True)
    ]
    for other in found[1:]:
        if other.n != found[0].n:
            raise DataError(
                f"{found[0].name} has {found[0].n} images and {other.name} has {other.n}: rows must be the same "
                "images in the same order."
            )
    return found
