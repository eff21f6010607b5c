"""The beginning of a program in which only the packages of the core can be imported."""

from jaxdiff.extras import PACKAGES

WITHOUT_EXTRAS = f"""
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(PACKAGES)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusal())
"""
