"""Components: settings that are objects, and objects that JSON can hold.

A preset is a tree of components. A component is a frozen dataclass or a Linen module whose fields are its settings:

    {"kind": "MLP", "width": 64}    is    MLP(width=64)

A function with options is a `Choice`, made by `choose`:

    {"kind": "ddim", "eta": 0.5}    is    choose(solvers.ddim, eta=0.5)

A kind is a name from the `__all__` of its home, a module of jaxdiff; or `module:Name` for a user's own class or
function, whose module has to be imported already. Reading JSON imports no module of a user. An object that JSON cannot
name is of the kind `opaque`, and has to be given again. A function of a user that a file names has to be annotated with
its result, as the built-in ones are, so that a file cannot call other functions.
"""

from jaxdiff.components.component import Component, Part, Table, python_value
from jaxdiff.components.declared import (
    Choice,
    Choices,
    Option,
    function_of,
    is_part,
    kinds_of,
    options_of,
    settings_of,
)
from jaxdiff.components.opaque import Opaque, fingerprint, is_opaque
from jaxdiff.components.paths import at
from jaxdiff.components.reading import choose, from_json
from jaxdiff.components.writing import Setting, to_json, walk

__all__ = [
    "Choice",
    "Choices",
    "Component",
    "Opaque",
    "Option",
    "Part",
    "Setting",
    "Table",
    "at",
    "choose",
    "fingerprint",
    "from_json",
    "function_of",
    "is_opaque",
    "is_part",
    "kinds_of",
    "options_of",
    "python_value",
    "settings_of",
    "to_json",
    "walk",
]
