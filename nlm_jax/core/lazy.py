"""Public names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562), so that importing a package costs nothing and cannot go round in a circle.

    Example:
      __getattr__ = lazily(__name__, {"Mesh": "nlm_jax.mesh.build"})

    Args:
      package: `__name__` of the package.
      modules: public name -> module that defines it, or for a subpackage the subpackage itself.

    Returns:
      the function from a name to its object. It raises AttributeError for any other name.
    """

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(modules[name])
        return module if modules[name] == f"{package}.{name}" else getattr(module, name)

    return attribute
