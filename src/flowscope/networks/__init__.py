"""Networks as velocity fields: adapters for anybody's, and those that flowscope trains."""
