"""Networks as velocity fields: adapters for anybody's, and those that flowscope trains."""

from flowscope.networks.convention import CONVENTIONS, Convention
from flowscope.networks.field import NetworkField, as_field

__all__ = ["CONVENTIONS", "Convention", "NetworkField", "as_field"]
