"""Conversion of tfjs GraphModels to a format that OpenVINO reads."""

from engines.catalogue.tfjs.conversion import Cut, convert
from engines.catalogue.tfjs.graph_model import ConversionError

__all__ = ["ConversionError", "Cut", "convert"]
