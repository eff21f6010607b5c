import os
from pathlib import Path

import pytest

from jaxdiff.data import prepare_digits


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory) -> Path:
    """A data directory that holds the embedded digits."""
    root = tmp_path_factory.mktemp("tfds")
    prepare_digits(root)
    return root


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """TFDS's directory with the real mnist and cifar10, where this machine has one."""
    beside_checkout = Path(__file__).parents[3] / "shared" / "tensorflow_datasets"
    root = Path(os.environ.get("JAXDIFF_TEST_DATA", beside_checkout))
    return root if root.is_dir() else None
