"""CKA from a stream of batches that is never stored (Nguyen et al. 2021, arXiv 2010.15327 eq. 2-3).

Only for streams: stored features, also larger than memory, have an exact answer in `pairwise_cka`. The sums of the
unbiased HSIC are accumulated and divided at the end; averaging the CKA of batches is a different, wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipbias.analysis.features import gather
from clipbias.analysis.gram import gram_sums, plan
from clipbias.analysis.kernels import make_kernels
from clipbias.errors import DataError


class MinibatchCKA:
    """Accumulates debiased CKA of all pairs over batches.

    Parameters
    ----------
    names : sequence of str, optional
        What messages call the matrices.
    dtype, device : str
    """

    def __init__(
        self, *, names: Sequence[str] | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        self._options = {"names": names, "dtype": dtype, "device": device}
        self._dtype = dtype
        self._total: np.ndarray | None = None
        self.images = 0
        self.batches = 0

    def update(self, *arrays: object) -> None:
        """Add one batch: one matrix of the same images for each space.

        Raises
        ------
        DataError
            Fewer than 4 images in the batch (join it to the one before), or another number of matrices.
        """
        features = gather(arrays, **self._options)  # type: ignore[arg-type]
        n = features[0].n
        if n < 4:
            raise DataError(
                f"a batch of {n} images has no debiased CKA; join it to another batch (at least 4)."
            )
        # Each batch has its own scale; HSIC is put back on the scale of the input before it is added.
        scale = []
        for one in features:
            factor = float(one.factor.max())
            scale.append(0.0 if factor == 0 else factor**-2)
        chosen = plan(n, [f.p for f in features], dtype=self._dtype)
        inner = gram_sums(make_kernels(features, kernel="linear", bandwidth=1.0), chosen).inner.cpu().numpy()
        part = inner * np.outer(scale, scale) / (n * (n - 3))
        if self._total is not None and self._total.shape != part.shape:
            raise DataError(f"{len(part)} matrices in this batch, {len(self._total)} in the ones before.")
        self._total = part if self._total is None else self._total + part
        self.images += n
        self.batches += 1

    def value(self) -> np.ndarray:
        """Return the matrix of debiased CKA so far, shape (N, N); NaN where a space was constant throughout."""
        if self._total is None:
            raise DataError("no batch has been added yet.")
        root = np.sqrt(np.diagonal(self._total))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._total / root[:, None] / root[None, :]
