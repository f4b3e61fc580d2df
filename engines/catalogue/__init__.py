"""The catalogue of models, and the download of their files."""

from engines.catalogue.models import Catalogue, Choice, UnknownModelError, load
from engines.catalogue.schema import Model
from engines.catalogue.tables import CatalogueError

__all__ = ["Catalogue", "CatalogueError", "Choice", "Model", "UnknownModelError", "load"]
