"""The catalogue of models, and the download of their files."""

from engines.catalogue.default_model import Choice, choose_default
from engines.catalogue.fetch.sources import FetchError
from engines.catalogue.models import Catalogue, UnknownModelError, load
from engines.catalogue.schema import CatalogueError, Model, Role

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Choice",
    "FetchError",
    "Model",
    "Role",
    "UnknownModelError",
    "choose_default",
    "load",
]
