"""Inputs larger than the memory that is left: the process is not allowed to hold them."""

import subprocess
import sys

import numpy as np
import pytest

from clipbias.analysis.gram import plan

BELOW = 128 << 20  # bytes the process may add, about half of its input

CODE = """
import resource, sys
import numpy as np
from clipbias.analysis.cka import cka_matrix
paths, n, d = sys.argv[4:], int(sys.argv[1]), int(sys.argv[2])
arrays = [np.memmap(p, np.float32, "r", shape=(n, d)) for p in paths]
cka_matrix([a[:50] for a in arrays])
held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held + int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    [np.array(a) for a in arrays]
except MemoryError:
    print(repr(float(cka_matrix(arrays).debiased[0, 1])))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
@pytest.mark.parametrize(
    ("form", "n", "d", "count"), [("features", 100_000, 100, 6), ("tiles", 3000, 2000, 10)]
)
def test_memory_maps_larger_than_memory(tmp_path, form, n, d, count):
    assert plan(n, [d] * count).form == form
    assert count * n * d * 4 > 1.7 * BELOW
    rng = np.random.default_rng(0)
    common, paths = rng.standard_normal((n, d), np.float32), []
    for i in range(count):
        paths.append(str(tmp_path / f"{i}.bin"))
        (0.5 * common + rng.standard_normal((n, d), np.float32)).tofile(paths[-1])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(n), str(d), str(BELOW), *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Cross-covariance .25 I against covariances 1.25 I on both sides: CKA is (.25 / 1.25)^2 up to sampling.
    assert float(done.stdout) == pytest.approx(0.04, abs=0.01)
