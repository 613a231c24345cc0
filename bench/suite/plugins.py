"""Plugins: strategies, schedules, data sets and so on, registered by files outside the package.

A plugin is a Python file, a package folder, or an installed module. Its digest, of the source of
its own modules, enters the ids of the trials that use what it has registered. No suite and no run
folder names one: whoever starts a run does. The source is read once: what is digested is what is
executed, here and in every process that trains.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from bench.errors import BenchError, PluginError, bounded
from bench.keys import content_hash
from bench.suite.registry import PACKAGE, Registry, registered_by

GROUP = "bench.plugins"
"""The entry point group of installed packages: each entry point names a module."""


@dataclass(frozen=True, kw_only=True)
class PluginModule:
    """A module of a plugin: where it was read, and what stood there."""

    path: str
    source: bytes
    is_package: bool


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin with the source of its own `modules`, by name: other machines need no file of it.

    `name` is the module that is imported. Of an `installed` package, other modules than these can
    be imported too. `distribution` are name and version of a package that has it as an entry point.
    """

    name: str
    modules: Mapping[str, PluginModule]
    installed: bool = False
    distribution: str | None = None

    @property
    def place(self) -> str:
        """Where the module was read."""
        return self.modules[self.name].path

    @cached_property
    def digest(self) -> str:
        """What ids and keys of trials have of it: names and sources of its modules."""
        sources = {
            name: hashlib.sha256(module.source).hexdigest() for name, module in self.modules.items()
        }
        return content_hash([self.name, self.distribution, sources], digits=16)

    @property
    def paths(self) -> frozenset[str]:
        """Where its modules were read."""
        return frozenset(module.path for module in self.modules.values())


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    plugin: Plugin
    finder: MetaPathFinder
    entries: tuple[tuple[Registry[Any, Any], str], ...]


@dataclass
class _Process:
    """The plugins of this process by name, and whether those of installed packages are there."""

    loaded: dict[str, _Loaded] = field(default_factory=dict)
    searched: bool = False


_PROCESS = _Process()
"""Modules are global too."""


# Loading --------------------------------------------------------------------------------------


def load_plugin(place: str | Path) -> Plugin:
    """Load a plugin: a Python file, a package folder, or the name of a module that is installed.

    What it registers can be named in suites from then on, in this process and in those that train.
    To a file belong the modules beside it that it imports, to a package its own. The same source is
    loaded once; one that has changed takes the place of the earlier one. Raises `PluginError` that
    names file and line; then nothing of it is registered.
    """
    plugin = _read(str(place))
    ensure_loaded([plugin])
    return plugin


def load_installed() -> None:
    """Load what installed packages offer in the entry point group `bench.plugins`, once."""
    if _PROCESS.searched:
        return
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.value):
        ensure_loaded([_read_installed(point.module)])
    _PROCESS.searched = True


def ensure_loaded(plugins: Sequence[Plugin]) -> None:
    """Load plugins, such as another process has sent, in place of others of the same file.

    Raises `PluginError` as `load_plugin`.
    """
    for plugin in plugins:
        known = _PROCESS.loaded.get(plugin.name)
        if known is None:
            _load(plugin)
        elif known.plugin.digest != plugin.digest:
            if known.plugin.place != plugin.place:
                raise PluginError(
                    f"a plugin called {plugin.name!r} is loaded already, from "
                    f"{known.plugin.place}; rename this one: {plugin.place}"
                )
            unload_plugin(plugin.place)
            _load(plugin)


def unload_plugin(place: str) -> None:
    """Take out of the registries what the plugin at `place` has registered, if it is loaded."""
    for name, loaded in list(_PROCESS.loaded.items()):
        if loaded.plugin.place == place:
            del _PROCESS.loaded[name]
            for registry, entry in loaded.entries:
                registry.forget(entry)
            _forget_modules(loaded.plugin.modules, loaded.finder)


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plugins of this process, in the order in which they were loaded."""
    return tuple(loaded.plugin for loaded in _PROCESS.loaded.values())


def entries_of(plugin: Plugin) -> tuple[tuple[Registry[Any, Any], str], ...]:
    """What the plugin has registered: (registry, name)."""
    return _PROCESS.loaded[plugin.name].entries


def _load(plugin: Plugin) -> None:
    _check_names(plugin)
    before = set(sys.modules)
    finder = _Finder(plugin)
    sys.meta_path.insert(0, finder)
    try:
        with registered_by(plugin.digest, plugin.modules) as loading:
            import_module(plugin.name)
            _check_entries(plugin, loading.entries)
    except (Exception, SystemExit) as error:
        _forget_modules(plugin.modules.keys() - before, finder)
        place = _deepest(error, plugin.paths) or plugin.place
        raise PluginError(
            f"the plugin {plugin.name} cannot be loaded: {_said(error)} ({place})"
        ) from error
    entries = tuple(loading.entries)
    _PROCESS.loaded[plugin.name] = _Loaded(plugin=plugin, finder=finder, entries=entries)


def _forget_modules(names: Iterable[str], finder: MetaPathFinder) -> None:
    sys.meta_path.remove(finder)
    for name in names:
        sys.modules.pop(name, None)


def _check_names(plugin: Plugin) -> None:
    """No name of the plugin's modules may mean another module in this process."""
    if plugin.name in sys.modules:
        raise PluginError(
            f"a module called {plugin.name!r} was imported before; load the plugin first, or "
            f"rename it if that is another module: {plugin.place}"
        )
    for other in loaded_plugins():
        for name in plugin.modules.keys() & other.modules.keys():
            if plugin.modules[name].source != other.modules[name].source:
                raise PluginError(
                    f"{plugin.modules[name].path} is not what the plugin {other.name} was loaded "
                    "with; start Python again if it has changed, or rename one of the two files"
                )
    for top in {name.partition(".")[0] for name in plugin.modules}:
        spec, module = importlib.util.find_spec(top), plugin.modules.get(top)
        if spec is None or module is None:
            continue
        if spec.origin is None or Path(spec.origin).resolve() != Path(module.path).resolve():
            where = spec.origin or "a folder without __init__.py"
            raise PluginError(
                f"the plugin {plugin.name} would import {module.path}, but {top!r} is also the "
                f"name of {where}; give the file another name"
            )


def _check_entries(plugin: Plugin, entries: Sequence[tuple[Registry[Any, Any], str]]) -> None:
    if not entries:
        raise PluginError("it registers nothing, as @STRATEGIES.register(name) would")
    for registry, name in entries:
        module = registry.get(name).function.__module__
        beside = module.partition(".")[0] == plugin.name.partition(".")[0]
        if beside and module not in plugin.modules:
            raise PluginError(
                f"{registry.kind} {name!r} stands in the module {module}, which none of the "
                "plugin's import statements names"
            )


# Reading --------------------------------------------------------------------------------------


def _read(place: str) -> Plugin:
    """The plugin that a user names, with its modules."""
    path = Path(place).expanduser()
    if not (path.suffix == ".py" or path.exists() or len(path.parts) > 1):
        return _read_installed(place)
    path = path.resolve()
    is_package = (path / "__init__.py").is_file()
    if not is_package and not (path.suffix == ".py" and path.is_file()):
        raise PluginError(f"a plugin must be a .py file or a package folder, got {path}")
    name = path.name if is_package else path.stem
    if not name.isidentifier():
        raise PluginError(f"the name of a plugin must be one of a Python module, got {path.name!r}")

    def owns(module: str) -> bool:
        top = module.partition(".")[0]
        return top == name or (not is_package and top != PACKAGE)

    return Plugin(name=name, modules=_gathered(path.parent, name, owns))


def _read_installed(name: str) -> Plugin:
    """A plugin that can be imported; nothing of its package is imported for that."""
    top = name.partition(".")[0]
    named = all(part.isidentifier() for part in name.split("."))
    spec = importlib.util.find_spec(top) if named else None
    if spec is None or spec.origin is None:
        raise PluginError(
            f"there is no plugin {name!r}: it is neither a file nor an installed module"
        )
    root = Path(spec.origin).parent
    if spec.submodule_search_locations is not None:
        root = root.parent
    # Of this package's own modules, the version of the numbers tells already.
    whole = name if top == PACKAGE else top

    def owns(module: str) -> bool:
        return module == whole or module.startswith(f"{whole}.")

    modules = _gathered(root, name, owns)
    if name not in modules:
        raise PluginError(f"there is no plugin {name!r}: no such module in {root / top}")
    return Plugin(name=name, modules=modules, installed=True, distribution=_distribution(name))


def _distribution(module: str) -> str | None:
    """Name and version of the package that has the module as an entry point."""
    packages = [point.dist for point in entry_points(group=GROUP) if point.module == module]
    return next((f"{each.name} {each.version}" for each in packages if each is not None), None)


def _gathered(root: Path, name: str, owns: Callable[[str], bool]) -> dict[str, PluginModule]:
    """The module and whatever it owns of what import statements name, wherever they stand."""
    found: dict[str, PluginModule] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in found or not owns(each) or (module := _module_at(root, each)) is None:
            continue
        found[each] = module
        waiting += _named(each, module)
        above = each.rpartition(".")[0]
        if above and owns(above) and _module_at(root, above) is None:
            path = root.joinpath(*above.split("."), "__init__.py")
            found[above] = PluginModule(path=str(path), source=b"", is_package=True)
        elif above:
            waiting.append(above)
    return dict(sorted(found.items()))


def _module_at(root: Path, name: str) -> PluginModule | None:
    place = root.joinpath(*name.split("."))
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            is_package = path.name == "__init__.py"
            return PluginModule(path=str(path), source=_content(path), is_package=is_package)
    return None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PluginError(f"cannot read the plugin {path}: {error.strerror}") from None


def _named(name: str, module: PluginModule) -> Iterator[str]:
    """What the import statements of a module name; of `from a import b` both `a` and `a.b`."""
    try:
        tree = ast.parse(module.source, module.path)
    except (SyntaxError, ValueError) as error:
        reason, line = getattr(error, "msg", error), getattr(error, "lineno", None) or 1
        raise PluginError(
            f"the plugin is not valid Python: {reason} ({module.path}:{line})"
        ) from None
    package = (name if module.is_package else name.rpartition(".")[0]).split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


# Importing ------------------------------------------------------------------------------------


class _Finder(MetaPathFinder):
    """Finds a plugin's modules in its source, also those that are imported while a trial trains."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._tops = {name.partition(".")[0] for name in plugin.modules}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = self._plugin.modules.get(fullname)
        if module is not None:
            folders = [str(Path(module.path).parent)] if module.is_package else None
            return importlib.util.spec_from_file_location(
                fullname,
                module.path,
                loader=_Loader(module),
                submodule_search_locations=folders,
            )
        if fullname.partition(".")[0] in self._tops and not self._plugin.installed:
            # It may be there, but nothing would tell its versions apart.
            message = f"no import statement of the plugin {self._plugin.name} names {fullname}"
            raise ModuleNotFoundError(message, name=fullname)
        return None


class _Loader(SourceLoader):
    """Compiles what was read, whatever bytecode lies beside the file."""

    def __init__(self, module: PluginModule) -> None:
        self._module = module

    def get_filename(self, fullname: str) -> str:
        return self._module.path

    def get_data(self, path: str) -> bytes:
        return self._module.source


# Errors ---------------------------------------------------------------------------------------


def place_in_plugin(error: BaseException) -> str | None:
    """File and line where a plugin's code raised an error; None if none was involved."""
    return _deepest(error, {path for plugin in loaded_plugins() for path in plugin.paths})


def plugin_failure(error: Exception) -> PluginError | None:
    """What a plugin's code has raised, in words with file and line; None if it was other code."""
    place = place_in_plugin(error)
    return None if place is None else PluginError(f"a plugin has failed: {_said(error)} ({place})")


@contextmanager
def plugin_errors_told() -> Iterator[None]:
    """Raise what a plugin's code raises in the block as a `PluginError`."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        failure = plugin_failure(error)
        if failure is None:
            raise
        raise failure from error


def _deepest(error: BaseException, paths: Collection[str]) -> str | None:
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_code.co_filename in paths
    ]
    return places[-1] if places else None


def _said(error: BaseException) -> str:
    text = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return bounded(text)
