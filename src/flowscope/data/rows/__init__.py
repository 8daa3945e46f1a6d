"""Points that stay where they lie: rows are read and mapped as they are asked for."""
