"""Plugins: strategies, schedules, data sets and so on, registered by files outside the package.

A plugin is a Python file, a package folder, or an installed module. Its digest, of the source of
its own modules, enters the ids of the trials that use what it has registered. No suite and no run
folder names one: whoever starts a run does, and the processes that train load the same source.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from bench.errors import BenchError, bounded
from bench.suite.registry import Registry, registered_by

GROUP = "bench.plugins"
"""The entry point group of installed packages: each entry point names a module."""

MAX_FILES = 1000


class PluginError(BenchError):
    """A plugin is missing, cannot be loaded, or is not the one that a trial was planned with."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin as other processes need it; picklable.

    `place` is the file, folder or module that was named; `main` what is imported, `files` the
    source of its own modules by path, relative to the folder that they are found in. A module that
    is installed has no files here: it has to be installed wherever trials train.
    """

    place: str
    main: str
    digest: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tables and messages call it."""
        return self.main


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    plugin: Plugin
    entries: tuple[tuple[Registry[Any, Any], str], ...]


_LOADED: dict[str, _Loaded] = {}
"""The plugins of this process by digest: modules are global too."""


def load_plugin(place: str | Path) -> Plugin:
    """Load a plugin: a Python file, a package folder, or the name of a module that is installed.

    What it registers can be named in suites from then on, in this process and in those that train.
    The same source is loaded once. Raises `PluginError` that names file and line.
    """
    path = Path(place).expanduser()
    if path.suffix == ".py" or path.exists() or len(path.parts) > 1:
        plugin = _plugin_of_path(path)
        root = _root(path.resolve())
    else:
        plugin, root = _plugin_of_module(str(place)), None
    _load(plugin, root)
    return plugin


def load_installed() -> None:
    """Load what installed packages offer in the entry point group `bench.plugins`, once."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.value):
        load_plugin(point.module)


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plugins of this process, in the order in which they were loaded."""
    return tuple(loaded.plugin for loaded in _LOADED.values())


def entries_of(plugin: Plugin) -> tuple[tuple[Registry[Any, Any], str], ...]:
    """What the plugin has registered: (registry, name)."""
    return _LOADED[plugin.digest].entries


def ensure_loaded(plugins: tuple[Plugin, ...], folder: Path) -> None:
    """Load plugins that another process has sent, with the source that it has loaded.

    Where their files are not here, or others by now, they are written below `folder`.
    """
    for plugin in plugins:
        if plugin.digest in _LOADED:
            continue
        if not plugin.files:
            here = _plugin_of_module(plugin.main)
            if here.digest != plugin.digest:
                raise PluginError(
                    f"the plugin {plugin.main} is another version here than where the run began; "
                    "install the same one on all machines"
                )
            _load(here, None)
            continue
        _load(plugin, _written(plugin, folder))


def _written(plugin: Plugin, folder: Path) -> Path:
    """The folder that the plugin's modules are found in, on this machine."""
    original = _root(Path(plugin.place))
    files = [original / name for name in plugin.files]
    if all(file.is_file() for file in files) and _read(original, plugin.files) == plugin.files:
        return original
    root = folder / plugin.digest
    for name, source in plugin.files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return root


def _read(root: Path, names: Mapping[str, str]) -> dict[str, str]:
    return {name: (root / name).read_text(encoding="utf-8") for name in names}


# Sources --------------------------------------------------------------------------------------


def _root(path: Path) -> Path:
    """The folder in which a file's modules, or a package, are found."""
    return path.parent


def _plugin_of_path(path: Path) -> Plugin:
    path = path.resolve()
    if path.is_dir() and (path / "__init__.py").is_file():
        names = sorted(file.relative_to(path.parent).as_posix() for file in path.rglob("*.py"))
        if len(names) > MAX_FILES:
            raise PluginError(f"a plugin may have {MAX_FILES:,} files, {path} has {len(names):,}")
        main = path.name
    elif path.is_file() and path.suffix == ".py":
        names = _own_files(path)
        main = path.stem
    else:
        raise PluginError(f"a plugin must be a .py file or a package folder, got {path}")
    if not main.isidentifier():
        raise PluginError(f"the name of a plugin must be one of a Python module, got {main!r}")
    try:
        files = _read(path.parent, dict.fromkeys(names, ""))
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"cannot read the plugin {path}: {error}") from None
    return Plugin(place=str(path), main=main, digest=_digest(main, files), files=files)


def _own_files(path: Path) -> list[str]:
    """The file, and the modules beside it that it imports, and those that they import."""
    found: dict[str, None] = {path.name: None}
    waiting = [path]
    while waiting:
        for name in _imported(waiting.pop()):
            beside = path.parent / f"{name}.py"
            if beside.is_file() and beside.name not in found:
                found[beside.name] = None
                waiting.append(beside)
    return sorted(found)


def _imported(path: Path) -> Iterator[str]:
    """The first parts of the modules that a file imports, wherever in it."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise PluginError(_syntax_message(error, path)) from None
    except OSError as error:
        raise PluginError(f"cannot read the plugin {path}: {error.strerror}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def _plugin_of_module(name: str) -> Plugin:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise PluginError(f"there is no plugin {name!r}: {error}") from None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise PluginError(f"there is no plugin {name!r}: it is no file and no installed module")
    origin = Path(found.origin)
    own = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    files = {file.relative_to(origin.parent).as_posix(): file.read_text("utf-8") for file in own}
    return Plugin(place=name, main=name, digest=_digest(name, files))


def _digest(main: str, files: Mapping[str, str]) -> str:
    digest = hashlib.sha256(main.encode())
    for name, source in sorted(files.items()):
        digest.update(f"\0{PurePosixPath(name)}\0{source}".encode())
    return digest.hexdigest()[:16]


# Loading --------------------------------------------------------------------------------------


def _load(plugin: Plugin, root: Path | None) -> None:
    if plugin.digest in _LOADED:
        return
    unload_plugin(plugin.place)  # an earlier version of the file, edited since
    try:
        with registered_by(plugin.digest) as loading:
            if root is None:
                _import_installed(plugin.main)
            else:
                _import_file(plugin, root)
    except PluginError:
        raise
    except SyntaxError as error:
        raise PluginError(_syntax_message(error, Path(plugin.place))) from None
    except Exception as error:
        raise PluginError(_message(plugin, error)) from error
    _LOADED[plugin.digest] = _Loaded(plugin=plugin, entries=tuple(loading.entries))


def unload_plugin(place: str) -> None:
    """Take out of the registries what the plugin at `place` has registered, if it is loaded."""
    for digest, loaded in list(_LOADED.items()):
        if loaded.plugin.place == place:
            del _LOADED[digest]
            for registry, name in loaded.entries:
                registry.forget(name)
            if not loaded.plugin.files:
                sys.modules.pop(loaded.plugin.main, None)
            sys.modules.pop(_module_name(loaded.plugin), None)
            for file in loaded.plugin.files:
                sys.modules.pop(PurePosixPath(file).stem, None)


def _module_name(plugin: Plugin) -> str:
    return f"bench_plugin_{plugin.main}_{plugin.digest}"


def _import_installed(name: str) -> None:
    if name in sys.modules:
        raise PluginError(
            f"{name} was imported before it was loaded as a plugin, so that its entries have no "
            "digest; load it with bench.load_plugin or --plugin first"
        )
    importlib.import_module(name)


def _import_file(plugin: Plugin, root: Path) -> None:
    """Run the plugin's main module under a name of its own; its other modules keep theirs."""
    is_package = f"{plugin.main}/__init__.py" in plugin.files
    file = root / (f"{plugin.main}/__init__.py" if is_package else f"{plugin.main}.py")
    spec = importlib.util.spec_from_file_location(
        _module_name(plugin),
        file,
        submodule_search_locations=[str(file.parent)] if is_package else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with _found_first(root):
            spec.loader.exec_module(module)
        _check_own(plugin, root)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _check_own(plugin: Plugin, root: Path) -> None:
    """The modules beside the file must be the plugin's, and none that another one has loaded."""
    for file in plugin.files:
        module = sys.modules.get(PurePosixPath(file).stem)
        origin = getattr(module, "__file__", None)
        if module is not None and "/" not in file and origin != str(root / file):
            raise PluginError(
                f"the plugin {plugin.main} imports {file}, but a module of that name was loaded "
                f"from {origin}; give the file another name"
            )


@contextmanager
def _found_first(root: Path) -> Iterator[None]:
    """Modules beside a plugin's file can be imported by it, and by nobody else."""
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))


def _syntax_message(error: Exception, path: Path) -> str:
    where = getattr(error, "filename", None) or path
    line = getattr(error, "lineno", None)
    place = f"{where}:{line}" if line else str(where)
    return f"the plugin is not valid Python: {getattr(error, 'msg', error)} ({place})"


def _message(plugin: Plugin, error: Exception) -> str:
    said = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return f"the plugin {plugin.main} cannot be loaded: {bounded(said)} ({_where(error, plugin)})"


def _where(error: BaseException, plugin: Plugin) -> str:
    """The last place in the plugin's own code on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    names = {PurePosixPath(name).name for name in plugin.files}
    own = [frame for frame in frames if Path(frame.filename).name in names]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else plugin.place


def place_in_plugin(error: BaseException) -> str | None:
    """File and line where a plugin's code raised an error; None if none was involved."""
    frames = traceback.extract_tb(error.__traceback__)
    roots = [
        str(Path(str(module.__file__)).parent)
        for name, module in list(sys.modules.items())
        if name.startswith("bench_plugin_")
    ]
    own = [frame for frame in frames if str(Path(frame.filename).parent) in roots]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None
