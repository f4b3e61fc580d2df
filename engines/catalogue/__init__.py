"""The catalogue of models, and the download of their files."""

from engines.catalogue.fetch.sources import FetchError
from engines.catalogue.models import Catalogue, Choice, UnknownModelError, load
from engines.catalogue.schema import CatalogueError, Model, Role

__all__ = ["Catalogue", "CatalogueError", "Choice", "FetchError", "Model", "Role", "UnknownModelError", "load"]
