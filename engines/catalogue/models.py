"""The catalogue: the models of models.toml and of the user's own catalogue files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engines.catalogue.fetch.sources import File
from engines.catalogue.schema import CatalogueError, Model, read_models
from engines.skeletons import SKELETONS, Skeleton

BUILT_IN = Path(__file__).with_name("models.toml")


class UnknownModelError(KeyError):
    """No model has this name; the message gives the closest names."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
        super().__init__(f"no model is called {name!r}; {hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would quote the sentence


class Catalogue(Mapping[str, Model]):
    """Models by name. Unknown names raise UnknownModelError. skeletons: the built-in ones and those of its files."""

    def __init__(
        self, models: Mapping[str, Model], defaults: Sequence[str], skeletons: Mapping[str, Skeleton] = SKELETONS
    ) -> None:
        self._models = dict(models)
        self.defaults = tuple(defaults)
        self.skeletons = MappingProxyType(dict(skeletons))

    def __getitem__(self, name: str) -> Model:
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModelError(name, self._models) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def models(self) -> list[Model]:
        """All models, the built-in ones first."""
        return list(self._models.values())

    def parts(self, name: str) -> tuple[Model, ...]:
        """The models needed to run `name`: the model itself, then its detector or its other shapes, if it has some."""
        model = self[name]
        return (model, *(self[other] for other in model.others))


def load(extra: Sequence[Path] | None = None, cache: Path | None = None) -> Catalogue:
    """Read the built-in catalogue and the files `extra`, whose models replace earlier ones of the same name. A skeleton
    cannot be replaced: another one of its name is an error.

    extra: by default the files in POSEWIRE_CATALOGUE (separated like PATH).
    cache: the folder for fetched files; by default POSEWIRE_MODELS, or `posewire/models` in the user's cache folder.
    Raises CatalogueError if a file cannot be read or is invalid.
    """
    extra = named_files() if extra is None else extra
    cache = _default_cache() if cache is None else cache
    models: dict[str, Model] = {}
    skeletons = dict(SKELETONS)
    defaults: tuple[str, ...] = ()
    for path in (BUILT_IN, *extra):
        found, defined, preferred = read_models(path, cache)
        models |= found
        for skeleton in defined.values():
            first = skeletons.setdefault(skeleton.name, skeleton)
            if first != skeleton or not np.array_equal(first.sigmas, skeleton.sigmas):
                raise CatalogueError(f"{path}: [skeletons.{skeleton.name}]: an earlier catalogue file has another one")
        if preferred is not None:
            defaults = preferred
            for name in defaults:
                _check_known(name, models, f"{path}: defaults")
    for model in models.values():
        if model.skeleton is not None:
            _check_known(model.skeleton, sorted(skeletons), f"{model.declared_in}: [models.{model.name}] skeleton")
        if model.detector is not None:
            detectors = [name for name, other in models.items() if other.role == "detector"]
            _check_known(model.detector, detectors, f"{model.declared_in}: [models.{model.name}] detector")
        alike = [name for name, other in models.items() if other is not model and _alike(model, other)]
        for shape in model.shapes:
            _check_known(shape, alike, f"{model.declared_in}: [models.{model.name}] shapes")
    known = {
        name: replace(model, also=_also(model, models.values()), keypoint_set=skeletons.get(model.skeleton or ""))
        for name, model in models.items()
    }
    return Catalogue(known, defaults, skeletons)


def named_files() -> list[Path]:
    """The user's catalogue files: those in POSEWIRE_CATALOGUE. Raises CatalogueError for an unknown user's folder."""
    named = os.environ.get("POSEWIRE_CATALOGUE", "").split(os.pathsep)
    return [_expanded(name, "POSEWIRE_CATALOGUE") for name in named if name]


def _default_cache() -> Path:
    if named := os.environ.get("POSEWIRE_MODELS"):
        return _expanded(named, "POSEWIRE_MODELS")
    user_cache = os.environ.get("XDG_CACHE_HOME")
    if user_cache:
        return Path(user_cache) / "posewire" / "models"
    try:
        return Path.home() / ".cache" / "posewire" / "models"
    except RuntimeError:
        raise CatalogueError("this user has no home folder for models; name one in POSEWIRE_MODELS") from None


def _expanded(name: str, variable: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise CatalogueError(f"{variable} names {name!r}, but there is no such user's folder") from None


def _check_known(name: str, known: Collection[str], where: str) -> None:
    if name not in known:
        raise CatalogueError(f"{where}: is {name!r}; it must be one of {', '.join(known)}")


def _alike(model: Model, other: Model) -> bool:
    """True if `other` may be another shape of `model`."""
    return (other.role, other.family, other.skeleton) == (model.role, model.family, model.skeleton)


def _also(model: Model, models: Collection[Model]) -> tuple[File, ...]:
    """The files that others in a model's pipelines need from its source, so that one download serves a pipeline."""
    pipelines = [other for other in models if model.name in other.others or other.name in model.others]
    others = {file: None for other in pipelines if other.source == model.source for file in other.files}
    return tuple(file for file in others if file not in model.files)
