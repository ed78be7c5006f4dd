"""Keep Prefect from taking settings out of files that lie in the working directory.

It reads `.env`, `prefect.toml` and `pyproject.toml` there, whoever put them: they can name another server, a logging
configuration that is called, plugins. What a user says in the environment still counts.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

READERS = ("PrefectTomlConfigSettingsSource", "PyprojectTomlConfigSettingsSource")
WHERE = "prefect.settings.base"


def ignore_found_settings() -> None:
    """Have Prefect, when it is imported, look at no file of the working directory; it reads them while it is imported."""
    if WHERE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != WHERE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.origin is not None  # noqa: PT018
        spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name in READERS:
            setattr(module, name, _blind(getattr(module, name)))
        build = module.build_settings_config
        module.build_settings_config = lambda *given, **named: {  # type: ignore[attr-defined]
            **build(*given, **named),
            "env_file": None,
        }


def _blind(reader: Any) -> Any:
    """The same source of settings, which finds no file."""
    return type(reader.__name__, (reader,), {"_read_files": lambda *_, **__: {}})
