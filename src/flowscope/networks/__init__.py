"""Networks as velocity fields: as_field for any network, its conventions, and the networks that flowscope trains."""

from flowscope.networks.convention import CONVENTIONS, Convention
from flowscope.networks.field import NetworkField, as_field

__all__ = ["CONVENTIONS", "Convention", "NetworkField", "as_field"]
