"""The models that can be named, and how their files are fetched."""

from engines.catalogue.models import Catalogue, Choice, UnknownModelError, load
from engines.catalogue.schema import Model
from engines.catalogue.tables import CatalogueError

__all__ = ["Catalogue", "CatalogueError", "Choice", "Model", "UnknownModelError", "load"]
